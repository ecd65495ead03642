"""The training loop: collect, learn; for every algorithm alike."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.fast.prng import split
from jaxrl_po.loop.collect import episode_means, make_collector
from jaxrl_po.loop.layout import environment_mesh, laid_out
from jaxrl_po.loop.learn import Metrics, learner
from jaxrl_po.loop.normalizer import init_normalizer
from jaxrl_po.loop.parts import as_config, check_fit, check_state, make_parts
from jaxrl_po.types import (
    AlgorithmFactory,
    Array,
    Network,
    Optimizer,
    Params,
    TrainResult,
    TrainState,
)


def make_train(
    config: Config | Mapping[str, Any],
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
    mesh: Mesh | None = None,
) -> Callable[[Array], TrainResult]:
    """A whole training run as one pure function of a key.

        train = jax.jit(make_train(PPOConfig(env_id="CartPole-v1")))
        result = train(jax.random.key(0))                              # one run
        results = jax.vmap(train)(jax.random.split(jax.random.key(0), 8))   # eight

    Args:
        config: a config, or a dict with "algorithm" and any of its fields.
        env: a gymnax-like object, or an `Environment`, in place of `config.env_id`.
        network: a `Network` in place of the one the config describes.
        algorithm: (config, network) -> `Algorithm` in place of the config's own update.
        optimizer: in place of Adam in every minibatch descent, behind `max_grad_norm`: an optax
            transformation, or what makes one of a learning rate, such as `optax.adamw`. The first
            has its own rate, so that `learning_rate` and `anneal_lr` are refused.
        mesh: of one axis, over whose devices the environments are cut; all else is on each of them,
            and only sums of gradients and statistics travel. `minibatch_shards` must be a multiple
            of its size. The numbers are those of one device, but for rounding.

    Returns:
        train(key) -> TrainResult(state, metrics), with one value an iteration in each metric.

    Raises:
        ValueError: naming the field that is unknown, out of range, or does not fit the environment.

    Examples:
        >>> from jaxrl_po import PPOConfig
        >>> train = make_train(PPOConfig(num_envs=2, num_steps=8, total_timesteps=32))
        >>> result = jax.jit(train)(jax.random.key(0))
        >>> result.metrics["kl"].shape  # [I]
        (2,)
    """
    config = as_config(config)
    init, step = make_step(config, env, network, algorithm, optimizer, mesh)

    def train(key: Array) -> TrainResult:
        state, metrics = jax.lax.scan(
            lambda state, _: step(state), init(key), length=config.num_iterations
        )
        return TrainResult(state, metrics)

    return train


def make_step(
    config: Config | Mapping[str, Any],
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
    mesh: Mesh | None = None,
) -> tuple[Callable[..., TrainState], Callable[[TrainState], tuple[TrainState, Metrics]]]:
    """The two halves of `make_train`, with its arguments, for those who hold the loop themselves.

    Returns:
        init(key) -> TrainState, or init(key, params) to start from parameters of one's own; and
        step(state) -> (TrainState, metrics): one iteration.

    Examples:
        >>> from jaxrl_po import PPOConfig
        >>> init, step = make_step(PPOConfig(num_envs=2, num_steps=8, total_timesteps=32))
        >>> state, metrics = jax.jit(step)(init(jax.random.key(0)))
        >>> int(state.iteration), int(metrics["timesteps"])
        (1, 16)
    """
    config = as_config(config)
    environment, network = make_parts(config, env, network)
    if mesh is not None:
        mesh = environment_mesh(config, mesh)
    collector = make_collector(config, environment, network, mesh)
    learn = learner(config, network, algorithm, optimizer)
    first_update = make_algorithm(config.at(0.0), network, algorithm, optimizer)

    def init(key: Array, params: Params | None = None) -> TrainState:
        params_key, env_key, run_key = split(key, 3)
        if params is None:
            params = network.init(params_key)
        else:
            check_fit("params", params, jax.eval_shape(network.init, params_key))
        start = TrainState(
            params=params,
            algorithm=first_update.init(params),
            rollout=collector.init(env_key),
            normalizer=init_normalizer(config, environment),
            key=run_key,
            iteration=jnp.zeros((), jnp.uint32),
        )
        return laid_out(mesh, start)

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        check_state(state)
        check_fit("", state, jax.eval_shape(init, state.key))
        _, rollout_key, _ = split(state.key, 3)
        rollout, transitions, episodes = collector.collect(state, rollout_key)
        state, metrics = learn(state._replace(rollout=rollout), transitions)
        return laid_out(mesh, state), {**episode_means(episodes), **metrics}

    return init, step
