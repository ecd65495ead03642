"""Collectors: where the experience of a training step comes from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, PartitionSpec

from jaxrl_po.config import Config
from jaxrl_po.envs import Environment
from jaxrl_po.fast.blocks import cut, join
from jaxrl_po.fast.prng import split
from jaxrl_po.loop.normalizer import Normalizer, observe
from jaxrl_po.loop.rollout import EpisodeSums, init_rollout, rollout
from jaxrl_po.ops import ratio_or_nan
from jaxrl_po.types import (
    Array,
    Network,
    Params,
    PyTree,
    RolloutState,
    TrainState,
    Transition,
)

Actor = tuple[Params, Normalizer]  # what takes an observation to an action
Collected = tuple[RolloutState, Transition, EpisodeSums]


class Collector(NamedTuple):
    """An environment's side of the loop; what it collects is learned from by `make_learn`."""

    init: Callable[[Array], RolloutState]  # key -> where the environments stand
    # state, key -> where they stand now, transitions [T, N, ...], the episodes that finished
    collect: Callable[[TrainState, Array], Collected]


def make_collector(
    config: Config, env: Environment, network: Network, mesh: Mesh | None = None
) -> Collector:
    """The compiled rollout of an environment in JAX, of each block of environments by itself.

    Over a mesh each device goes through the steps of its own blocks, and talks to no other.
    """
    N, T, M = config.num_envs, config.num_steps, config.minibatch_shards

    def init(key: Array) -> RolloutState:
        return init_rollout(env, network, N, key)

    def of_block(actor: Actor, start: RolloutState, key: Array) -> Collected:
        params, normalizer = actor

        def policy(observation: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
            return network.policy(params, observe(normalizer, observation), memory)

        def value(observation: PyTree, memory: PyTree) -> Array:
            return network.value(params, observe(normalizer, observation), memory)

        return rollout(env, policy, network.initial_memory(N // M), start, key, T, value)

    of_blocks = jax.vmap(of_block, in_axes=(None, 0, 0), out_axes=(0, 1, 0))
    if mesh is not None:
        whole, blocks = PartitionSpec(), PartitionSpec(*mesh.axis_names)
        of_blocks = jax.shard_map(  # no reduction is in there whose result could be told apart
            of_blocks,
            mesh=mesh,
            in_specs=(whole, blocks, blocks),
            out_specs=(blocks, PartitionSpec(None, *blocks), blocks),
            check_vma=False,
        )

    def collect(state: TrainState, key: Array) -> Collected:
        actor = state.params, state.normalizer._replace(reward=())
        if M == 1 and mesh is None:
            return of_block(actor, state.rollout, key)
        keys = split(key, M)
        after, transitions, episodes = of_blocks(actor, cut(state.rollout, M), keys)
        return join(after), join(transitions, axis=1), jax.tree.map(lambda x: x.sum(0), episodes)

    return Collector(init, collect)


def episode_means(episodes: EpisodeSums) -> dict[str, Array]:
    """Means over the episodes that finished; NaN when none did."""
    count = episodes.num_episodes
    return {
        "episode_return": ratio_or_nan(episodes.episode_return, count),
        "episode_length": ratio_or_nan(episodes.episode_length, count),
        "num_episodes": count,
    }
