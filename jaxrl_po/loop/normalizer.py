"""What the network sees of an observation, and the statistics that this takes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.config import Config
from jaxrl_po.envs import Environment
from jaxrl_po.loop.masks import unmasked
from jaxrl_po.ops import init_statistics, normalize, update_statistics
from jaxrl_po.types import MaskedObservation, PyTree


class Normalizer(NamedTuple):
    """Running statistics; both fields are empty where the config does not ask for them."""

    observation: Any  # RunningStatistics for each floating leaf, () for others; or () for all
    reward: Any  # (RunningStatistics of discounted returns, their running sums [N]), or ()


def init_normalizer(config: Config, environment: Environment) -> Normalizer:
    """Statistics of nothing seen."""
    dtype = jnp.zeros(()).dtype

    def of_leaf(leaf: Any) -> PyTree:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return init_statistics(leaf.shape, dtype) if is_float else ()

    return Normalizer(
        jax.tree.map(of_leaf, unmasked(environment.observation))
        if config.normalize_observations
        else (),
        (init_statistics((), dtype), jnp.zeros(config.num_envs))
        if config.normalize_rewards
        else (),
    )


def observe(normalizer: Normalizer, observation: PyTree) -> PyTree:
    """What the network sees of a raw observation; what is no float stays, as does a mask."""
    if normalizer.observation == ():
        return observation
    if isinstance(observation, MaskedObservation):
        return observation._replace(observation=observe(normalizer, observation.observation))
    return jax.tree.map(
        lambda leaf, statistics: leaf if statistics == () else normalize(statistics, leaf),
        observation,
        normalizer.observation,
    )


def count_in(normalizer: Normalizer, observation: PyTree) -> Normalizer:
    """The statistics with raw observations [..., *observation] counted in."""
    statistics = jax.tree.map(
        lambda leaf, statistics: () if statistics == () else update_statistics(statistics, leaf),
        unmasked(observation),
        normalizer.observation,
    )
    return normalizer._replace(observation=statistics)
