"""Evaluation of a policy on whole episodes, with keys of its own."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl_po.config import Config, check_count
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import as_config, check_fit, check_state, make_parts
from jaxrl_po.types import Array, Network, TrainState


class Evaluation(NamedTuple):
    """Undiscounted results of E episodes."""

    episode_return: Array  # [E]
    episode_length: Array  # [E]


def evaluate(
    config: Config | Mapping[str, Any],
    state: TrainState,
    key: Array,
    num_episodes: int = 128,
    deterministic: bool = False,
    *,
    env: Any = None,
    network: Network | None = None,
    max_steps: int = 10_000,
    mesh: Mesh | None = None,
) -> Evaluation:
    """Play `num_episodes` episodes side by side, each from its start to its end.

    Pure: jit it, or vmap it over states and keys. Rewards are the environment's own, whatever the
    training normalised; observations are normalised by the statistics in `state`.

    Args:
        config: the config the state was trained under.
        state: a `TrainState`.
        key: randomness of the episodes.
        num_episodes: E.
        deterministic: take the most likely action instead of a sample.
        env: as given to `make_train`.
        network: as given to `make_train`.
        max_steps: bound on an episode's steps, for environments that never end; an episode that
            reaches it counts with what it has gathered.
        mesh: of one axis, over whose devices the episodes are cut, if it divides their number;
            otherwise each device plays all of them.

    Raises:
        ValueError: naming the argument that does not fit.

    Examples:
        >>> from jaxrl_po import PPOConfig, make_step
        >>> config = PPOConfig(env_id="CartPole-v1")
        >>> init, _ = make_step(config)
        >>> played = evaluate(config, init(jax.random.key(0)), jax.random.key(1), num_episodes=4)
        >>> played.episode_return.shape  # [E]
        (4,)
    """
    config = as_config(config)
    check_state(state)
    num_episodes = check_count("num_episodes", num_episodes)
    max_steps = check_count("max_steps", max_steps)
    environment, network = make_parts(config, env, network)
    check_fit("params", state.params, jax.eval_shape(network.init, jax.random.key(0)))
    reset_key, key = split(key)
    observation, env_state = jax.vmap(environment.reset, in_axes=(0, None))(
        split(reset_key, num_episodes), environment.params
    )
    if mesh is not None and num_episodes % mesh.size == 0:
        cut = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
        observation, env_state = jax.lax.with_sharding_constraint((observation, env_state), cut)

    def running(carry: Any) -> Array:
        *_, done, t = carry
        some_run: Array = ~done.all() & (t < max_steps)
        return some_run

    def step(carry: Any) -> Any:
        env_state, observation, memory, results, done, t = carry
        noise_key, env_key = split(jax.random.fold_in(key, t))
        distribution, memory = network.policy(
            state.params, observe(state.normalizer, observation), memory
        )
        action = (
            distribution.mode()
            if deterministic
            else distribution.sample(distribution.noise(unrolled(noise_key)))
        )
        observation, env_state, reward, terminated, truncated = jax.vmap(
            environment.step, in_axes=(0, 0, 0, None)
        )(
            split(env_key, num_episodes),
            env_state,
            distribution.to_env(action),
            environment.params,
        )
        results = Evaluation(
            results.episode_return + jnp.where(done, 0.0, reward),
            results.episode_length + ~done,
        )
        return env_state, observation, memory, results, done | terminated | truncated, t + 1

    carry = (
        env_state,
        observation,
        network.initial_memory(num_episodes),
        Evaluation(jnp.zeros(num_episodes), jnp.zeros(num_episodes, jnp.int32)),
        jnp.zeros(num_episodes, bool),
        jnp.zeros((), jnp.int32),
    )
    return jax.lax.while_loop(running, step, carry)[3]
