"""A noise-free measure of speed: how many kernels the two inner loops of a PPO program run.

The program is compiled for the CPU, and the instructions of the compiled bodies of the environment
loop and of the minibatch loop are counted, beside those of the textbook program of the benchmark.
"""

import re

import jax
import pytest
from baselines import textbook

from jaxrl_po import PPOConfig, make_train
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


def compiled_text(train):
    options = {"xla_cpu_multi_thread_eigen": False, **AS_SHIPPED}
    return jax.jit(train).lower(jax.random.key(0)).compile(compiler_options=options).as_text()


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
def sizes():
    return loop_sizes(compiled_text(make_train(PPOConfig(**SETTING))))


@pytest.fixture(scope="module")
def textbook_sizes():
    return loop_sizes(compiled_text(textbook.make_train(SETTING)))


def test_environment_loop(sizes, textbook_sizes):
    assert sizes[NUM_STEPS] <= 26
    assert sizes[NUM_STEPS] <= 0.5 * textbook_sizes[NUM_STEPS]


def test_minibatch_loop(sizes, textbook_sizes):
    # One loop for all epochs here; a loop in a loop in the textbook.
    size = sizes[NUM_EPOCHS * NUM_MINIBATCHES]
    assert size <= 90
    assert size <= 0.7 * textbook_sizes[NUM_MINIBATCHES]
