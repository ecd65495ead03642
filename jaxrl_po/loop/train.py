"""The training loop: roll out, estimate advantages, update; for every algorithm alike."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.algorithms import config_from_dict, make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.envs import Environment, check_environment, make_environment
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.loop.masks import heed_mask, show_mask, unmasked
from jaxrl_po.loop.rollout import EpisodeSums, init_rollout, rollout
from jaxrl_po.networks import make_network
from jaxrl_po.networks.check import check_network, described
from jaxrl_po.ops import (
    discounted_returns,
    explained_variance,
    gae,
    init_statistics,
    mean_kl,
    normalize,
    normalize_advantage,
    ratio_or_nan,
    scale_rewards,
    update_statistics,
)
from jaxrl_po.types import (
    Array,
    Batch,
    MaskedObservation,
    Network,
    PyTree,
    TrainResult,
    TrainState,
    Transition,
)

Metrics = dict[str, Array]


class Normalizer(NamedTuple):
    """Running statistics; both fields are empty where the config does not ask for them."""

    observation: Any  # RunningStatistics, or ()
    reward: Any  # (RunningStatistics of discounted returns, their running sums [N]), or ()


def make_train(
    config: Config | Mapping[str, Any], env: Any = None, network: Network | None = None
) -> Callable[[Array], TrainResult]:
    """A whole training run as one pure function of a key.

        train = jax.jit(make_train(PPOConfig(env_id="CartPole-v1")))
        result = train(jax.random.key(0))                              # one run
        results = jax.vmap(train)(jax.random.split(jax.random.key(0), 8))   # eight

    Args:
        config: a config, or a dict with "algorithm" and any of its fields.
        env: a gymnax-like object, or an `Environment`, in place of `config.env_id`.
        network: a `Network` in place of the one the config describes.

    Returns:
        train(key) -> TrainResult(state, metrics), with one value an iteration in each metric.

    Raises:
        ValueError: naming the field that is unknown, out of range, or does not fit the environment.
    """
    config = as_config(config)
    init, step = make_step(config, env, network)

    def train(key: Array) -> TrainResult:
        state, metrics = jax.lax.scan(
            lambda state, _: step(state), init(key), length=config.num_iterations
        )
        return TrainResult(state, metrics)

    return train


def make_step(
    config: Config | Mapping[str, Any], env: Any = None, network: Network | None = None
) -> tuple[Callable[[Array], TrainState], Callable[[TrainState], tuple[TrainState, Metrics]]]:
    """The two halves of `make_train`, for those who want to hold the loop themselves.

    Returns:
        init(key) -> TrainState, and step(state) -> (TrainState, metrics): one iteration.
    """
    config = as_config(config)
    environment, network = make_parts(config, env, network)
    algorithm = make_algorithm(config, network)
    N, T = config.num_envs, config.num_steps

    def init(key: Array) -> TrainState:
        params_key, env_key, run_key = split(key, 3)
        params = network.init(params_key)
        return TrainState(
            params=params,
            algorithm=algorithm.init(params),
            rollout=init_rollout(environment, network, N, env_key),
            normalizer=init_normalizer(config, environment),
            key=run_key,
            iteration=jnp.zeros((), jnp.uint32),
        )

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        check_state(state)
        key, rollout_key, update_key = split(state.key, 3)

        def policy(observation: Array, memory: PyTree) -> tuple[Any, PyTree]:
            seen = observe(state.normalizer, observation)
            return network.policy(state.params, seen, memory)

        rollout_state, transitions, episodes = rollout(
            environment, policy, network.initial_memory(N), state.rollout, rollout_key, T
        )
        batch, normalizer = make_batch(config, network, state, transitions)
        anneal = config.learning_rate_factor(state.iteration)
        params, algorithm_state, metrics = algorithm.update(
            unrolled(update_key), state.params, state.algorithm, batch, anneal
        )
        new_distribution, _ = network.policy(params, batch.observation, batch.memory)
        iteration = state.iteration + 1
        metrics = {
            "timesteps": iteration * (N * T),
            **episode_means(episodes),
            **metrics,
            "kl": mean_kl(batch.distribution, new_distribution),
            "explained_variance": explained_variance(batch.value, batch.target),
            "learning_rate": config.learning_rate * anneal,
        }
        return TrainState(
            params, algorithm_state, rollout_state, normalizer, key, iteration
        ), metrics

    return init, step


def as_config(config: Config | Mapping[str, Any]) -> Config:
    """The config itself, or the one that a dict describes."""
    return config if isinstance(config, Config) else config_from_dict(config)


def make_parts(
    config: Config, env: Any = None, network: Network | None = None
) -> tuple[Environment, Network]:
    """Environment and network of a config, or those given in their place, checked to fit.

    With an `action_mask` both speak of `MaskedObservation`s.
    """
    environment = as_environment(config, env)
    if network is None:
        network = make_network(config, environment.observation_shape, environment.action_space)
    else:
        check_network(network, environment, _observation(config, environment))
    if environment.action_mask is not None:
        network = heed_mask(network)
    return show_mask(environment), network


def as_environment(config: Config, env: Any = None) -> Environment:
    """The environment of a config, or the one given in its place, checked."""
    for name, leaf in _named_leaves(config):
        if jnp.ndim(leaf):
            raise ValueError(
                f"{name} has shape {list(jnp.shape(leaf))}: a run takes one value; "
                "to run several, vmap over the config"
            )
    if isinstance(env, Environment):
        if config.env_params:
            raise ValueError("env_params: an `Environment` object brings parameters of its own")
        check_environment(env)
        environment = env
    else:
        environment = make_environment(config.env_id if env is None else env, config.env_params)
    if not environment.action_space.continuous:
        if config.squash_actions:
            raise ValueError("squash_actions=True needs continuous actions; these are discrete")
        if not isinstance(config.log_std_init, jax.core.Tracer) and config.log_std_init != 0:
            raise ValueError(
                f"log_std_init={config.log_std_init} needs continuous actions; these are discrete"
            )
    return environment


def check_state(state: Any) -> None:
    """Raise unless this is the state of one run."""
    if not isinstance(state, TrainState):
        raise ValueError(
            f"state must be a TrainState, such as the `state` of a result, not {described(state)}"
        )
    if jnp.ndim(state.iteration):
        raise ValueError(
            f"state holds several runs, {list(jnp.shape(state.iteration))}: vmap over it and its "
            "keys, as in jax.vmap(lambda state, key: evaluate(config, state, key))(states, keys)"
        )


def _observation(config: Config, environment: Environment) -> Any:
    """Shape and dtype of one observation as a network sees it."""

    def first(key: Array) -> Array:
        observation, _ = environment.reset(key, environment.params)
        return observe(init_normalizer(config, environment), observation)

    return jax.eval_shape(first, jax.random.key(0))


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


def episode_means(episodes: EpisodeSums) -> Metrics:
    """Means over the episodes that finished; NaN when none did."""
    count = episodes.num_episodes
    return {
        "episode_return": ratio_or_nan(episodes.episode_return, count),
        "episode_length": ratio_or_nan(episodes.episode_length, count),
        "num_episodes": count,
    }


def _named_leaves(config: Config) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(config)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]
