"""A run whose environments step on the host has its programs called in place."""

import subprocess
import sys

import pytest

# The processor time of this thread and of all, while a program runs that takes a while.
AFTER = """
import time, jax, jax.numpy as jnp
program = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda i, x: jnp.cos(x @ x), x))
numbers = jax.block_until_ready(program(jnp.ones((100, 100))))
began = time.thread_time(), time.process_time()
jax.block_until_ready(program(numbers))
own, whole = time.thread_time() - began[0], time.process_time() - began[1]
print(own > 0.5 * whole)
"""
RUN = """
from jaxrl_po import PPOConfig, run
config = PPOConfig(env_id="{}", num_envs=2, num_steps=8, total_timesteps=16, num_minibatches=1)
run(config, quiet=True, num_episodes=2, max_episode_steps=5)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "is_in_place"), [("CartPole-v1", False), ("gymnasium:CartPole-v1", True)]
)
def test_programs_run_in_the_thread_that_calls_them_beside_environments_on_the_host(
    env_id, is_in_place
):
    """In processes of their own, as JAX is told before it begins."""
    code = RUN.format(env_id) + AFTER
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(is_in_place)]
