"""Noise-free measures of speed, memory and compile time, of programs compiled for the CPU.

Speed: how many kernels the two inner loops run, counted in the compiled bodies of the environment
loop and of the minibatch loop, beside those of the textbook program of the benchmark. Memory: what
a program needs beside its results. Compile time: how many instructions XLA is given, and makes.
"""

import re
from typing import NamedTuple

import jax
import pytest
from baselines import textbook

from jaxrl_po import PPOConfig, TRPOConfig, make_train
from tests.conftest import AS_SHIPPED

NUM_STEPS, NUM_EPOCHS, NUM_MINIBATCHES = 16, 3, 2  # trip counts that tell the loops apart
FREE = {"parameter", "tuple", "get-tuple-element", "constant", "bitcast"}  # no work when run
SETTING = {
    "env_id": "CartPole-v1",
    "num_envs": 4,
    "num_steps": NUM_STEPS,
    "total_timesteps": 256,
    "update_epochs": NUM_EPOCHS,
    "num_minibatches": NUM_MINIBATCHES,
    "hidden_sizes": (64, 64),
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "learning_rate": 2.5e-4,
    "max_grad_norm": 0.5,
    "clip_eps": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.0,
}


TRPO_SETTING = {
    field: value
    for field, value in SETTING.items()
    if field not in ("update_epochs", "num_minibatches", "clip_eps", "vf_coef", "ent_coef")
}


class Program(NamedTuple):
    """A training run as XLA gets it and as it is compiled."""

    given: str
    made: str
    temporary_bytes: int


def program_of(train):
    options = {"xla_cpu_multi_thread_eigen": False, **AS_SHIPPED}
    lowered = jax.jit(train).lower(jax.random.key(0))
    compiled = lowered.compile(compiler_options=options)
    memory = compiled.memory_analysis()
    return Program(lowered.as_text(), compiled.as_text(), memory.temp_size_in_bytes)


def loop_sizes(text):
    """Trip count -> instructions in the body of the largest loop with that count."""
    bodies, body = {}, []
    for line in text.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            body = bodies[start[1]] = []
        elif " = " in line:
            body.append(line.split(" = ", 1)[1])
    sizes = {}
    for line in (line for body in bodies.values() for line in body if " while(" in line):
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        if trips:
            name = re.search(r"body=%?([\w.\-]+)", line)[1]
            opcodes = [re.search(r" ([a-z][a-z\-]*)\(", line)[1] for line in bodies[name]]
            size = sum(opcode not in FREE for opcode in opcodes)
            sizes[int(trips[1])] = max(size, sizes.get(int(trips[1]), 0))
    return sizes


@pytest.fixture(scope="module")
def ppo():
    return program_of(make_train(PPOConfig(**SETTING)))


@pytest.fixture(scope="module")
def trpo():
    return program_of(make_train(TRPOConfig(**TRPO_SETTING)))


@pytest.fixture(scope="module")
def sizes(ppo):
    return loop_sizes(ppo.made)


@pytest.fixture(scope="module")
def textbook_sizes():
    return loop_sizes(program_of(textbook.make_train(SETTING)).made)


def test_environment_loop(sizes, textbook_sizes):
    assert sizes[NUM_STEPS] <= 26
    assert sizes[NUM_STEPS] <= 0.5 * textbook_sizes[NUM_STEPS]


def test_minibatch_loop(sizes, textbook_sizes):
    # One loop for all epochs here; a loop in a loop in the textbook.
    size = sizes[NUM_EPOCHS * NUM_MINIBATCHES]
    assert size <= 90
    assert size <= 0.7 * textbook_sizes[NUM_MINIBATCHES]


@pytest.mark.parametrize(
    ("method", "temporary_bytes", "given", "made"),
    # measured 117,496 bytes, 5,991 and 11,209 instructions; 251,800, 6,998 and 12,853
    [("ppo", 124_000, 6_300, 11_800), ("trpo", 265_000, 7_350, 13_500)],
)
def test_budgets_of_memory_and_of_compile_time(method, temporary_bytes, given, made, request):
    program = request.getfixturevalue(method)
    assert program.temporary_bytes <= temporary_bytes
    assert program.given.count(" = ") <= given
    assert program.made.count(" = ") <= made


def test_memory_does_not_grow_with_the_budget(ppo):
    longer = make_train(
        PPOConfig(**{**SETTING, "total_timesteps": 16 * SETTING["total_timesteps"]})
    )
    assert program_of(longer).temporary_bytes <= 1.01 * ppo.temporary_bytes
