"""What the network sees of an observation, and the statistics that this takes."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl_po.config import Config
from jaxrl_po.envs import Environment
from jaxrl_po.ops import init_statistics, normalize
from jaxrl_po.types import MaskedObservation, PyTree


class Normalizer(NamedTuple):
    """Running statistics; both fields are empty where the config does not ask for them."""

    observation: Any  # RunningStatistics, or ()
    reward: Any  # (RunningStatistics of discounted returns, their running sums [N]), or ()


def init_normalizer(config: Config, environment: Environment) -> Normalizer:
    """Statistics of nothing seen."""
    dtype = jnp.zeros(()).dtype
    return Normalizer(
        init_statistics(environment.observation_shape, dtype)
        if config.normalize_observations
        else (),
        (init_statistics((), dtype), jnp.zeros(config.num_envs))
        if config.normalize_rewards
        else (),
    )


def observe(normalizer: Normalizer, observation: PyTree) -> PyTree:
    """What the network sees of a raw observation; a mask beside it stays."""
    if normalizer.observation == ():
        return observation
    if isinstance(observation, MaskedObservation):
        return observation._replace(observation=observe(normalizer, observation.observation))
    return normalize(normalizer.observation, observation)
