"""A run that takes milliseconds: a small environment of our own, small networks, short episodes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po import config_from_dict
from jaxrl_po.envs import Box, Environment

SETTINGS = {
    "num_envs": 2,
    "num_steps": 8,
    "hidden_sizes": (4,),
    "learning_rate": 0.01,
    "normalize_observations": True,
    "normalize_rewards": True,
}
RUN = {"num_episodes": 4, "max_episode_steps": 8, "quiet": True}


def config(algorithm="ppo", num_iterations=8, **changes):
    steps = SETTINGS["num_envs"] * SETTINGS["num_steps"]
    settings = {**SETTINGS, "total_timesteps": num_iterations * steps, **changes}
    return config_from_dict({"algorithm": algorithm, **settings})


def random_walk(hazard=0.0):
    """Stay near zero; an episode takes five steps, or ends beyond ±2.

    With probability `hazard` an episode's rewards are NaN.
    """

    def reset(key, params):
        position_key, hazard_key = jax.random.split(key)
        position = jax.random.uniform(position_key, (), minval=-1, maxval=1)
        broken = jax.random.uniform(hazard_key) < hazard
        state = (position, broken, jnp.zeros((), jnp.int32))
        return observe(state), state

    def step(key, state, action, params):
        position, broken, time = state
        position = position + jnp.clip(action[0], -1, 1) + 0.3 * jax.random.normal(key)
        state = (position, broken, time + 1)
        reward = jnp.where(broken, jnp.nan, -jnp.abs(position))
        return observe(state), state, reward, jnp.abs(position) > 2, time + 1 >= 5

    def observe(state):
        return jnp.stack([state[0], state[2].astype(state[0].dtype)])

    bounds = np.array([-2.0]), np.array([2.0])
    return Environment(reset, step, (), (2,), Box(*bounds), 5)


def same(left, right):
    """Whether two pytrees are equal to the bit."""

    def data(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(data(x).tobytes() == data(y).tobytes() for x, y in leaves)
