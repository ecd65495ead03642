"""Collectors: where the experience of a training step comes from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl_po.config import Config
from jaxrl_po.envs import Environment
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.rollout import EpisodeSums, init_rollout, rollout
from jaxrl_po.ops import ratio_or_nan
from jaxrl_po.types import Array, Network, PyTree, RolloutState, TrainState, Transition


class Collector(NamedTuple):
    """An environment's side of the loop; what it collects is learned from by `make_learn`."""

    init: Callable[[Array], RolloutState]  # key -> where the environments stand
    # state, key -> where they stand now, transitions [T, N, ...], the episodes that finished
    collect: Callable[[TrainState, Array], tuple[RolloutState, Transition, EpisodeSums]]


def make_collector(config: Config, env: Environment, network: Network) -> Collector:
    """The compiled rollout of an environment in JAX."""
    N, T = config.num_envs, config.num_steps

    def init(key: Array) -> RolloutState:
        return init_rollout(env, network, N, key)

    def collect(state: TrainState, key: Array) -> tuple[RolloutState, Transition, EpisodeSums]:
        def policy(observation: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
            return network.policy(state.params, observe(state.normalizer, observation), memory)

        def value(observation: PyTree, memory: PyTree) -> Array:
            return network.value(state.params, observe(state.normalizer, observation), memory)

        return rollout(env, policy, network.initial_memory(N), state.rollout, key, T, value)

    return Collector(init, collect)


def episode_means(episodes: EpisodeSums) -> dict[str, Array]:
    """Means over the episodes that finished; NaN when none did."""
    count = episodes.num_episodes
    return {
        "episode_return": ratio_or_nan(episodes.episode_return, count),
        "episode_length": ratio_or_nan(episodes.episode_length, count),
        "num_episodes": count,
    }
