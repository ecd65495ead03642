"""All of a training step that follows a rollout: normalise, value, estimate advantages, update."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.fast.blocks import by_blocks
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.fast.slices import in_slices, policy_in_slices
from jaxrl_po.loop.normalizer import Normalizer, count_in, observe
from jaxrl_po.loop.parts import as_config, make_parts
from jaxrl_po.loop.stretches import in_samples, over_stretches
from jaxrl_po.ops import (
    discounted_returns,
    explained_variance,
    gae,
    mean_kl,
    normalize_advantage,
    scale_rewards,
    update_statistics,
)
from jaxrl_po.types import (
    Algorithm,
    AlgorithmFactory,
    Array,
    Batch,
    Network,
    Optimizer,
    Params,
    PyTree,
    TrainState,
    Transition,
)

Metrics = dict[str, Array]


def make_learn(
    config: Config | Mapping[str, Any],
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
) -> Callable[[TrainState, Transition], tuple[TrainState, Metrics]]:
    """All of a training step that follows a rollout: learn(state, transitions) -> state, metrics.

    Normalise, value, estimate advantages, update, by one pure function that may be jitted alone:
    the transitions may come from anywhere, as long as the policy of `state` has taken them. Where
    the environments stand (`state.rollout`) is left as it is.

    Args:
        config: as for `make_train`.
        env: as for `make_train`.
        network: as for `make_train`.
        algorithm: as for `make_train`.
        optimizer: as for `make_train`.
    """
    config = as_config(config)
    _, network = make_parts(config, env, network)
    make_algorithm(config.at(0.0), network, algorithm, optimizer)  # or say now why there is none
    return learner(config, network, algorithm, optimizer)


def learner(
    config: Config,
    network: Network,
    own_algorithm: AlgorithmFactory | None,
    optimizer: Optimizer | None,
) -> Callable[[TrainState, Transition], tuple[TrainState, Metrics]]:
    """`make_learn` for parts that are checked."""
    num_blocks = config.minibatch_shards
    of_samples = network if network.unroll is None else over_stretches(network, num_blocks)

    def learn(state: TrainState, transitions: Transition) -> tuple[TrainState, Metrics]:
        now = config.at(config.fraction_done(state.iteration))
        algorithm = make_algorithm(now, of_samples, own_algorithm, optimizer)
        key, _, update_key = split(state.key, 3)
        batch, normalizer = make_batch(now, network, state, transitions)
        anneal = config.learning_rate_factor(state.iteration)
        if algorithm.passes == 1:
            params, algorithm_state, metrics = algorithm.update(
                unrolled(update_key), state.params, state.algorithm, batch, anneal
            )
        else:
            params, algorithm_state, metrics = pass_by_pass(
                algorithm,
                lambda params: make_batch(now, network, state._replace(params=params), transitions)[
                    0
                ],
                update_key,
                state,
                anneal,
            )
        new_distribution = policy_in_slices(of_samples, num_blocks)(
            params, batch.observation, batch.memory
        )
        iteration = state.iteration + 1
        metrics = {
            "timesteps": iteration * transitions.reward.size,
            **metrics,
            "kl": mean_kl(batch.distribution, new_distribution),
            "explained_variance": explained_variance(batch.value, batch.target),
        }
        if optimizer is None or callable(optimizer):  # one that is ready has a rate of its own
            metrics["learning_rate"] = now.learning_rate * anneal
        state = state._replace(
            params=params,
            algorithm=algorithm_state,
            normalizer=normalizer,
            key=key,
            iteration=iteration,
        )
        return state, metrics

    return learn


def pass_by_pass(
    algorithm: Algorithm,
    batch_of: Callable[[Params], Batch],
    key: Array,
    state: TrainState,
    anneal: Array,
) -> tuple[Params, PyTree, Metrics]:
    """Several updates on a rollout, each on a batch made anew (arXiv:2006.05990, sec. 3.5).

    Old log-probabilities stay those that the rollout was collected with.
    """

    def one(carry: tuple[Params, PyTree], key: Array) -> tuple[tuple[Params, PyTree], Metrics]:
        params, algorithm_state = carry
        *after, metrics = algorithm.update(
            unrolled(key), params, algorithm_state, batch_of(params), anneal
        )
        return (after[0], after[1]), metrics

    (params, algorithm_state), metrics = jax.lax.scan(
        one, (state.params, state.algorithm), split(key, algorithm.passes)
    )
    first = {n: m[0] for n, m in metrics.items() if n == "ratio_first_minibatch"}
    return params, algorithm_state, {n: m.mean(axis=0) for n, m in metrics.items()} | first


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
        normalizer = count_in(normalizer, transitions.observation)
    if config.normalize_rewards:
        statistics, running = normalizer.reward
        done = transitions.terminated | transitions.truncated
        returns, running = discounted_returns(reward, done, running, config.gamma)
        statistics = update_statistics(statistics, returns)
        normalizer = normalizer._replace(reward=(statistics, running))
        reward = scale_rewards(statistics, reward)
    value, next_value = values(network, state, transitions, observation, config.minibatch_shards)
    advantage, target = advantages_and_targets(
        config, reward, value, next_value, transitions.terminated, transitions.truncated
    )
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
    length = None if network.unroll is None else config.stretch_length
    done = transitions.terminated | transitions.truncated
    return in_samples(batch, done, length, config.minibatch_shards), normalizer


def advantages_and_targets(
    config: Config,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Generalised advantages, standardised over the batch if the config says so, and λ-returns.

    All [T, N], as for `jaxrl_po.ops.gae`; `mask` are the slots that count, None for all of them.
    """
    advantage = gae(
        reward,
        value,
        next_value,
        terminated,
        truncated,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    target = advantage + value
    if config.advantage_normalization == "batch":
        advantage = normalize_advantage(advantage, mask)
    return advantage, target


def values(
    network: Network,
    state: TrainState,
    transitions: Transition,
    observation: PyTree,
    num_blocks: int,
) -> tuple[Array, Array]:
    """V(o_t) and V(o_{t+1}) [T, N] of a rollout, the latter before any reset.

    Within an episode o_{t+1} is the next row's observation, whose value is at hand. The rows after
    a time limit are not, so a rollout that has any takes a second pass (under vmap every rollout
    does) unless it has brought their values; after a terminal state the value is not used.
    """

    def of_slice(rows: tuple[PyTree, PyTree]) -> Array:
        return network.value(state.params, *rows)

    def value_of(rows: tuple[PyTree, PyTree]) -> Array:
        values: Array = in_slices(by_blocks(of_slice, num_blocks, 1, 1), rows)
        return values

    def value_of_next(rows: slice) -> Array:
        following = transitions.next_observation, transitions.next_memory
        next_observation, memory = jax.tree.map(lambda x: x[rows], following)
        return value_of((observe(state.normalizer, next_observation), memory))

    def value_of_following() -> Array:
        return jnp.concatenate([value[1:], value_of_next(slice(-1, None))])

    value = value_of((observation, transitions.memory))
    if transitions.bootstrap is not None:
        truncated = transitions.truncated
        return value, jnp.where(truncated, transitions.bootstrap, value_of_following())
    next_value = jax.lax.cond(
        transitions.truncated[:-1].any(), lambda: value_of_next(slice(None)), value_of_following
    )
    return value, next_value
