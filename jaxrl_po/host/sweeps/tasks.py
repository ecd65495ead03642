"""Members as a task: plain data that travels to a worker, and their training there."""

import functools
import pickle
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config.messages import described
from jaxrl_po.host.machine.execution import Plan
from jaxrl_po.host.machine.identity import numerics, versions
from jaxrl_po.host.sweeps.batches import stack_members, take_apart
from jaxrl_po.host.sweeps.groups import Group, make_groups, plan_group
from jaxrl_po.host.sweeps.members import Member, Saved
from jaxrl_po.loop.parts import Given
from jaxrl_po.types import PyTree

TASK_SIZE = 8  # members of a task, unless the caller wants others
CACHE = "jax_compilation_cache_dir"
MAX_PROGRAMS = 16  # that a worker keeps compiled; groups come one after the other


class Packer(NamedTuple):
    """What the programs of a sweep's groups have in common."""

    given: Given
    task_size: int
    devices: str | None
    conditions: dict[str, Any]  # that must hold in every worker

    def program(self, group: Group) -> bytes:
        """All that a group's program depends on, for a worker to compile once."""
        cache = getattr(jax.config, CACHE)
        return pickle.dumps((self, group.example.to_dict(), bool(group.blank), cache))


class Task(NamedTuple):
    """Members of a group that one worker trains from iteration `first` to `last`."""

    program: bytes
    configs: list[dict[str, Any]]
    seeds: list[int]
    before: list[Saved]  # as they ended the rung before; none in the first
    first: int
    last: int


def check_parts(given: Given) -> None:
    """Raise unless the parts that are given can be sent.

    Raises:
        ValueError: naming the part that cannot be pickled.
    """
    for name in given.names:
        part = getattr(given, name)
        try:
            pickle.dumps(part)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{name}: {described(part)} cannot be sent to an executor's workers ({error}): "
                "make it of functions and classes that can be imported, and of arrays"
            ) from error


def conditions(_: Any = None) -> dict[str, Any]:
    """What a process's numbers depend on beside their config, by name."""
    return {"numerics": numerics(), "versions": versions()}


def check_conditions(wanted: Mapping[str, Any], found: Mapping[str, Any], *but: str) -> None:
    """Raise unless a worker computes under these conditions.

    Args:
        wanted: as `conditions` gives them.
        found: the worker's.
        but: names of conditions that may differ.
    """
    for kind, entries in wanted.items():
        for name, value in entries.items():
            if name not in but and found[kind][name] != value:
                raise ValueError(
                    f"executor: {name} is {found[kind][name]!r} in a worker, not {value!r}: "
                    "members would not be comparable"
                )


def train(task: Task) -> list[Saved]:
    """Train a task's members, in a worker: what each ends with.

    Raises:
        ValueError: when the worker is not as the sweep's others, or cannot import a part.
    """
    with _LOCK:  # of a worker's threads one compiles, the others wait for it
        group, plan = _compiled(task.program)
    members = [
        Member(config_from_dict(config), np.uint32(seed))
        for config, seed in zip(task.configs, task.seeds, strict=True)
    ]
    ended: dict[int, Saved] = {}

    def load(chosen: range) -> PyTree:
        return stack_members(group, _part(members, chosen), _part(task.before, chosen))

    def save(chosen: range, output: Any, seconds: float) -> None:
        saved = take_apart(output, _part(task.before, chosen), seconds)
        ended.update(zip(chosen, saved, strict=True))

    plan.run(len(members), load, save, np.int32(task.first), np.int32(task.last))
    return [ended[i] for i in range(len(members))]


_LOCK = threading.Lock()


@functools.lru_cache(MAX_PROGRAMS)
def _compiled(program: bytes) -> tuple[Group, Plan]:
    try:
        packer, example, keep_state, cache = pickle.loads(program)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"executor: a worker cannot import what it is given: {error}") from error
    check_conditions(packer.conditions, conditions())
    if getattr(jax.config, CACHE) is None:
        jax.config.update(CACHE, cache)
    (group,) = make_groups([config_from_dict(example)], [1.0], packer.given, keep_state)
    return group, plan_group(group, packer.task_size, packer.task_size, packer.devices)


def _part(values: Sequence[Any], chosen: range) -> Sequence[Any]:
    return values[chosen.start : chosen.stop]
