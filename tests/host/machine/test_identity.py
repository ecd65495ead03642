"""Fingerprints: the same for what is made alike, in any process; another for any other part."""

import dataclasses
import functools
import os
import subprocess
import sys
import threading

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.host.small
from jaxrl_po.envs import Box, Discrete
from jaxrl_po.host.machine.identity import fingerprint, numerics, program_identity
from jaxrl_po.networks import make_network
from tests.host import small
from tests.host.small import config, random_walk


class Task:
    """An object with attributes, of which one may be a class's."""

    scale = 1.0

    def __init__(self, size=3, goal=0.5):
        self.size, self.goal, self.table = size, np.full(size, goal), {"a": [goal]}

    def reward(self, x):
        return -abs(x) * self.scale


class Scaled(Task):
    scale = 2.0


def with_reward(reward):
    return type("Task", (), {"__module__": __name__, "reward": reward})()


def network(sizes=(4,), space=None):
    return make_network(config(hidden_sizes=sizes), (3,), space or Discrete(2))


def bounds(high):
    return Box(np.array([-1.0]), np.array([high]))


ALIKE = {
    "object": Task,
    "closures": lambda: random_walk(0.25),
    "gymnax": lambda: gymnax.make("CartPole-v1")[0],
    "network": network,
    "partial": lambda: functools.partial(Task, 2),
    "jitted": lambda: jax.jit(lambda x: x + 1),
    "set": lambda: {"a", "b", "c", ("d", 1)},
}
OTHERS = {
    "attribute": (Task(3), Task(4)),
    "array attribute": (Task(goal=0.5), Task(goal=0.25)),
    "class attribute": (Task(), Scaled()),
    "code": (with_reward(lambda _, x: -x), with_reward(lambda _, x: -2 * x)),
    "closure": (random_walk(0.0), random_walk(0.5)),
    "default": (lambda x=1: x, lambda x=2: x),
    "type of numbers": (np.zeros(2, np.float32), jnp.zeros(2, jnp.int32)),
    "dtype": (np.dtype("float32"), np.dtype("float64")),
    "widths": (network((4,)), network((5,))),
    "bounds": (network(space=bounds(1.0)), network(space=bounds(2.0))),
    "bound method": (Task(3).reward, Task(4).reward),
    "key": (jax.random.key(0), jax.random.key(1)),
    "jitted": (jax.jit(lambda x: x + 1), jax.jit(lambda x: x + 2)),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_made_alike_has_one_fingerprint(name):
    assert fingerprint(ALIKE[name]()) == fingerprint(ALIKE[name]())


@pytest.mark.parametrize("name", OTHERS)
def test_other_parts_have_other_fingerprints(name):
    one, other = (fingerprint(value).split()[-1] for value in OTHERS[name])
    assert one != other


GOAL = 1.0


def towards(x):
    return [abs(y - GOAL) for y in x]


def test_globals_that_a_function_uses_belong_to_it(monkeypatch):
    before = fingerprint(towards), fingerprint(with_reward(towards)), fingerprint(Task())
    monkeypatch.setitem(globals(), "GOAL", 2.0)
    after = fingerprint(towards), fingerprint(with_reward(towards)), fingerprint(Task())
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]


def test_what_belongs_to_an_object_belongs_to_its_fingerprint():
    assert fingerprint(Task(), {"goal": 1}) != fingerprint(Task(), {"goal": 2})


def test_an_object_that_holds_itself_has_a_fingerprint():
    task = Task()
    task.itself = [task]
    assert fingerprint(task).startswith(f"{Task.__module__}.Task ")
    assert fingerprint(task) != fingerprint(Task())


class Opaque:
    """An object that shows nothing of itself."""

    __slots__ = ()

    def __reduce_ex__(self, protocol):
        raise OSError("it lives elsewhere")


def test_an_object_that_shows_nothing_is_its_class():
    assert fingerprint(Opaque()) == fingerprint(Opaque())
    assert fingerprint(threading.Lock()) == fingerprint(threading.Lock())
    assert fingerprint([Opaque()]) != fingerprint([threading.Lock()])


def test_use_changes_no_fingerprint():
    env, _ = gymnax.make("Catch-bsuite")
    before = fingerprint(env), fingerprint(random_walk())
    jax.jit(env.reset)(jax.random.key(0))
    assert (fingerprint(env), fingerprint(random_walk())) == before


SCRIPT = """
from tests.host.machine.test_identity import ALIKE, fingerprint
print(*[fingerprint(make()) for make in ALIKE.values()], sep="\\n")
"""


def test_another_process_finds_the_same():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", SCRIPT]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert output.stdout.splitlines() == [fingerprint(make()) for make in ALIKE.values()]


def test_switches_of_jax_show():
    before = numerics()
    with jax.enable_x64(True):
        assert numerics() == {**before, "jax_enable_x64": True}


def test_a_space_is_what_it_is_whatever_it_has_drawn():
    """Of a class of the caller's that an environment on the host is made of."""
    gymnasium = pytest.importorskip("gymnasium")
    space, other = gymnasium.spaces.Discrete(2, seed=0), gymnasium.spaces.Discrete(3, seed=0)
    before = fingerprint(space)
    space.sample()
    assert fingerprint(space) == before != fingerprint(other)


class Start:
    __slots__ = ("start",)


class Schedule(Start):
    """With an attribute that lies beside its `__dict__`."""

    def __init__(self, start):
        self.start = start


class Wrapping:
    """Has a `__wrapped__`, and more."""


def wrapping(scale):
    made = Wrapping()
    made.__wrapped__, made.scale = len, scale
    return made


@dataclasses.dataclass
class Made:
    size: int

    def __post_init__(self):
        self.beside = COUNT * self.size


READERS = [lambda: small.BOUND * 2, lambda: tests.host.small.BOUND * 2]


COUNT = 1.0


def test_no_file_tells_what_use_has_added_and_a_process_does(monkeypatch):
    before = Made(3)
    monkeypatch.setitem(globals(), "COUNT", 2.0)
    assert fingerprint(before) == fingerprint(Made(3))
    assert program_identity((before,)) != program_identity((Made(3),))


def test_slots_of_any_class_are_attributes():
    assert fingerprint(Schedule(1.0)) != fingerprint(Schedule(2.0))


def test_in_a_process_what_wraps_is_more_than_what_it_wraps():
    assert program_identity((wrapping(1.0),)) != program_identity((wrapping(2.0),))
    assert program_identity((wrapping(1.0),)) == program_identity((wrapping(1.0),))


@pytest.mark.parametrize("reader", READERS)
def test_in_a_process_what_is_read_from_a_module_counts(reader, monkeypatch):
    monkeypatch.setattr(small, "BOUND", 1.0, raising=False)
    before = program_identity((reader,))
    assert program_identity((reader,)) == before
    monkeypatch.setattr(small, "BOUND", 2.0)
    assert program_identity((reader,)) != before


def test_objects_are_themselves_and_what_cannot_be_told_has_no_identity():
    one, other = [1], [1]
    assert program_identity((), one) == program_identity((), one) != program_identity((), other)
    chain = None
    for _ in range(5_000):
        chain = [chain]
    assert program_identity((chain,)) != program_identity((chain,))
