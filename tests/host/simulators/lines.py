"""A small environment twice: for Gymnasium, in each convention of resets, and in JAX, to the bit.

The state is a place on a line, in quarters, and the time. An action moves by a quarter one way or
the other; an episode ends at ±1, and is cut off after seven steps.
"""

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from jaxrl_po.envs import Discrete, Environment, HostEnvironment

LIMIT = 7


class Line(gymnasium.Env):
    """For Gymnasium."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        """In the middle."""
        self.place, self.time = 0.0, 0
        return self.observation(), {}

    def step(self, action):
        """A quarter down or up."""
        self.place += 0.25 if action else -0.25
        self.time += 1
        ends = abs(self.place) >= 1, self.time >= LIMIT
        return self.observation(), self.place - 0.125, *ends, {}

    def observation(self):
        """Place and time."""
        return np.array([self.place, self.time / 4])


def line():
    """In JAX."""

    def observe(state):
        return jnp.stack([state[0], state[1] / 4])

    def reset(key, params):
        state = jnp.zeros(()), jnp.zeros(())
        return observe(state), state

    def step(key, state, action, params):
        state = state[0] + jnp.where(action == 1, 0.25, -0.25), state[1] + 1
        ends = jnp.abs(state[0]) >= 1, state[1] >= LIMIT
        return observe(state), state, state[0] - 0.125, *ends

    return Environment(reset, step, (), (2,), Discrete(2), LIMIT)


def hosted(mode=AutoresetMode.DISABLED, env=Line):
    """On the host, with a convention of resets."""
    return HostEnvironment(
        lambda num_envs, seeds: SyncVectorEnv([env] * num_envs, autoreset_mode=mode)
    )
