"""All of a training step that follows a rollout: normalise, value, estimate advantages, update."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.loop.masks import unmasked
from jaxrl_po.loop.normalizer import Normalizer, observe
from jaxrl_po.loop.parts import as_config, make_parts
from jaxrl_po.ops import (
    discounted_returns,
    explained_variance,
    gae,
    mean_kl,
    normalize_advantage,
    scale_rewards,
    update_statistics,
)
from jaxrl_po.types import Array, Batch, Network, TrainState, Transition

Metrics = dict[str, Array]


def make_learn(
    config: Config | Mapping[str, Any], env: Any = None, network: Network | None = None
) -> Callable[[TrainState, Transition], tuple[TrainState, Metrics]]:
    """All of a training step that follows a rollout: learn(state, transitions) -> state, metrics.

    Normalise, value, estimate advantages, update, by one pure function that may be jitted alone:
    the transitions may come from anywhere, as long as the policy of `state` has taken them. Where
    the environments stand (`state.rollout`) is left as it is.

    Args:
        config: as for `make_train`.
        env: as for `make_train`.
        network: as for `make_train`.
    """
    config = as_config(config)
    return learner(config, make_parts(config, env, network)[1])


def learner(
    config: Config, network: Network
) -> Callable[[TrainState, Transition], tuple[TrainState, Metrics]]:
    """`make_learn` for parts that are checked."""
    algorithm = make_algorithm(config, network)

    def learn(state: TrainState, transitions: Transition) -> tuple[TrainState, Metrics]:
        key, _, update_key = split(state.key, 3)
        batch, normalizer = make_batch(config, network, state, transitions)
        anneal = config.learning_rate_factor(state.iteration)
        params, algorithm_state, metrics = algorithm.update(
            unrolled(update_key), state.params, state.algorithm, batch, anneal
        )
        new_distribution, _ = network.policy(params, batch.observation, batch.memory)
        iteration = state.iteration + 1
        metrics = {
            "timesteps": iteration * transitions.reward.size,
            **metrics,
            "kl": mean_kl(batch.distribution, new_distribution),
            "explained_variance": explained_variance(batch.value, batch.target),
            "learning_rate": config.learning_rate * anneal,
        }
        state = state._replace(
            params=params,
            algorithm=algorithm_state,
            normalizer=normalizer,
            key=key,
            iteration=iteration,
        )
        return state, metrics

    return learn


def make_batch(
    config: Config, network: Network, state: TrainState, transitions: Transition
) -> tuple[Batch, Normalizer]:
    """Values, advantages and targets of a rollout, and the normaliser for the next one.

    Observations are normalised as they were when the policy saw them, so that ratios start at 1;
    rewards by the returns up to and including this rollout: one scale for all of them.
    """
    normalizer, reward = state.normalizer, transitions.reward
    observation = observe(normalizer, transitions.observation)
    if config.normalize_observations:
        normalizer = normalizer._replace(
            observation=update_statistics(normalizer.observation, unmasked(transitions.observation))
        )
    if config.normalize_rewards:
        statistics, running = normalizer.reward
        done = transitions.terminated | transitions.truncated
        returns, running = discounted_returns(reward, done, running, config.gamma)
        statistics = update_statistics(statistics, returns)
        normalizer = normalizer._replace(reward=(statistics, running))
        reward = scale_rewards(statistics, reward)
    value, next_value = values(network, state, transitions, observation)
    advantage = gae(
        reward,
        value,
        next_value,
        transitions.terminated,
        transitions.truncated,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    target = advantage + value
    if config.advantage_normalization == "batch":
        advantage = normalize_advantage(advantage)
    batch = Batch(
        observation=observation,
        memory=transitions.memory,
        distribution=transitions.distribution,
        action=transitions.action,
        log_prob=transitions.distribution.log_prob(transitions.action),
        value=value,
        advantage=advantage,
        target=target,
    )
    return batch, normalizer


def values(
    network: Network, state: TrainState, transitions: Transition, observation: Array
) -> tuple[Array, Array]:
    """V(o_t) and V(o_{t+1}) [T, N] of a rollout, the latter before any reset.

    Within an episode o_{t+1} is the next row's observation, whose value is at hand. The rows after
    a time limit are not, so a rollout that has any takes a second pass (under vmap every rollout
    does); after a terminal state the value is not used.
    """

    def value_of_next(rows: slice) -> Array:
        following = transitions.next_observation, transitions.next_memory
        next_observation, memory = jax.tree.map(lambda x: x[rows], following)
        next_observation = observe(state.normalizer, next_observation)
        return network.value(state.params, next_observation, memory)

    value = network.value(state.params, observation, transitions.memory)
    next_value = jax.lax.cond(
        transitions.truncated[:-1].any(),
        lambda: value_of_next(slice(None)),
        lambda: jnp.concatenate([value[1:], value_of_next(slice(-1, None))]),
    )
    return value, next_value
