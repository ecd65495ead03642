"""The only scan over environments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.envs import Environment
from jaxrl_po.fast.packing import Packed, pack
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.types import Array, Network, PyTree, RolloutState, Transition

START_STATE_BYTES = 4 * 2**20  # bound on the start states drawn for one rollout
LARGE_OBSERVATION = 4 * 2**10  # bytes from which on an observation is held once


class EpisodeSums(NamedTuple):
    """Totals over the episodes that finished in a rollout."""

    episode_return: Array  # []
    episode_length: Array  # []
    num_episodes: Array  # []


def init_rollout(env: Environment, network: Network, num_envs: int, key: Array) -> RolloutState:
    """All environments at the start of an episode."""
    keys = split(key, num_envs)
    observation, env_state = jax.vmap(env.reset, in_axes=(0, None))(keys, env.params)
    return RolloutState(
        env_state=env_state,
        observation=observation,
        memory=network.initial_memory(num_envs),
        episode_return=jnp.zeros(num_envs),
        episode_length=jnp.zeros(num_envs, jnp.int32),
    )


def rollout(
    env: Environment,
    policy: Callable[[PyTree, PyTree], tuple[Any, PyTree]],
    initial_memory: PyTree,
    state: RolloutState,
    key: Array,
    num_steps: int,
    value: Callable[[PyTree, PyTree], Array] | None = None,
) -> tuple[RolloutState, Transition, EpisodeSums]:
    """Let the policy act for `num_steps` steps; episodes that end go on from a fresh start state.

    All randomness is drawn before the scan: action noise, environment keys, and start states for
    the episodes that will end: T for each environment, the one for step t waiting there. Where
    these would exceed `START_STATE_BYTES`, fewer are drawn, into one pool, and which of them waits
    at a step and environment is drawn too: a fixed turn would meet episodes of a fixed length in
    step, and start them from the same few states.

    With a `value`, observations of `LARGE_OBSERVATION` bytes or more are held once: what a time
    limit cut off is valued there and then, and not kept.

    Args:
        env: the environment.
        policy: raw observation [N, ...], memory -> π(·|o) [N], next memory.
        initial_memory: memory at the start of an episode [N, ...].
        state: where the environments stand.
        key: all randomness of the rollout.
        num_steps: T.
        value: raw observation [N, ...], memory -> V(o) [N]; None to keep all that comes next.

    Returns:
        Where the environments stand now, the T transitions, and the episodes that finished.
    """
    num_envs = state.episode_return.shape[0]
    action_key, env_key, start_key = split(key, 3)
    abstract, _ = jax.eval_shape(policy, state.observation, state.memory)
    noise = abstract.noise(unrolled(action_key), leading=(num_steps,))
    env_keys = split(env_key, (num_steps, num_envs))
    starts_each, _ = start_states(state, num_steps)
    num_starts = starts_each * num_envs
    is_large = _num_bytes(state.observation) >= LARGE_OBSERVATION * num_envs
    value_at_limits = value if is_large else None
    starts = jax.vmap(lambda k: env.reset(k, env.params))(split(start_key, num_starts))

    fresh = pack(
        RolloutState(
            env_state=starts[1],
            observation=starts[0],
            memory=jax.tree.map(
                lambda x: jnp.resize(x, (num_starts, *x.shape[1:])), initial_memory
            ),
            episode_return=jnp.zeros(num_starts),
            episode_length=jnp.zeros(num_starts, jnp.int32),
        ),
        num_axes=1,
    )
    if starts_each == num_steps:
        waiting = jnp.arange(num_steps)
        fresh = jax.tree.map(lambda x: x.reshape(num_steps, num_envs, *x.shape[1:]), fresh)
    else:
        pick_key = unrolled(jax.random.fold_in(start_key, 1))
        waiting = jax.random.randint(pick_key, (num_steps, num_envs), 0, num_starts)

    def step(carry: Packed, inputs: Any) -> tuple[Packed, Packed]:
        before = carry.unpack()
        env_state, observation, memory, episode_return, episode_length = before
        waiting_t, noise_t, keys_t = inputs

        distribution, next_memory = policy(observation, memory)
        action = distribution.sample(noise_t)
        next_observation, env_state, reward, terminated, truncated = jax.vmap(
            env.step, in_axes=(0, 0, 0, None)
        )(keys_t, env_state, distribution.to_env(action), env.params)
        done = terminated | truncated

        transition = Transition(
            observation=observation,
            memory=memory,
            distribution=distribution,
            action=action,
            reward=reward,
            next_observation=next_observation,
            next_memory=next_memory,
            terminated=terminated,
            truncated=truncated,
        )
        if value_at_limits is not None:
            transition = transition._replace(
                next_observation=(),
                next_memory=(),
                bootstrap=jax.lax.cond(
                    truncated.any(),
                    lambda: jnp.where(
                        truncated, value_at_limits(next_observation, next_memory), 0
                    ).astype(float),
                    lambda: jnp.zeros(num_envs),
                ),
            )
        episode_return = episode_return + reward
        episode_length = episode_length + 1
        after = RolloutState(
            env_state, next_observation, next_memory, episode_return, episode_length
        )
        _check_same_types(before, after)
        ongoing = pack(after, num_axes=1)
        carry = jax.tree.map(lambda f, o: _where(done, f[waiting_t], o), fresh, ongoing)
        return carry, pack((transition, episode_return, episode_length), num_axes=1)

    inputs = waiting, noise, env_keys
    end, outputs = jax.lax.scan(step, pack(state, num_axes=1), inputs)
    after = end.unpack()
    transitions, episode_return, episode_length = outputs.unpack()
    if value_at_limits is not None:  # where the last step ended an episode, what follows is unused
        last = jax.tree.map(lambda x: x[None], (after.observation, after.memory))
        transitions = transitions._replace(next_observation=last[0], next_memory=last[1])
    done = transitions.terminated | transitions.truncated
    sums = EpisodeSums(
        jnp.where(done, episode_return, 0).sum(),
        jnp.where(done, episode_length, 0).sum(dtype=jnp.int32),
        done.sum(dtype=jnp.int32),
    )
    return after, transitions, sums


def _check_same_types(before: RolloutState, after: RolloutState) -> None:
    """Raise unless a step has kept the structure, shapes and dtypes of what it began from."""
    structures: list[Any] = [jax.tree.structure(state) for state in (before, after)]
    if structures[0] != structures[1]:
        raise ValueError(
            "env, network: a step must keep the structure of the state: it turns "
            f"{structures[0]} into {structures[1]}"
        )
    leaves, _ = jax.tree_util.tree_flatten_with_path(before)
    for (path, old), new in zip(leaves, jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                "env, network: a step must keep the types of the state: it turns "
                f"{jax.tree_util.keystr(path).lstrip('.')} from {old.dtype}{list(old.shape)} "
                f"into {new.dtype}{list(new.shape)}"
            )


def start_states(state: RolloutState, num_steps: int) -> tuple[int, int]:
    """How many start states each environment gets for a rollout, 1 to T, and the bytes of one.

    T if so many fit in `START_STATE_BYTES`; of fewer, a pool of all environments is made.
    """
    num_envs = state.episode_return.shape[0]
    all_bytes = _num_bytes((state.observation, state.env_state))
    each = max(1, min(num_steps, START_STATE_BYTES // max(1, all_bytes)))
    return each, all_bytes // num_envs


def _num_bytes(tree: PyTree) -> int:
    return sum(int(leaf.size) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _where(done: Array, fresh: Array, ongoing: Array) -> Array:
    """Choose between two leaves [N, ...] by a mask [N]."""
    return jnp.where(done.reshape(-1, *[1] * (fresh.ndim - 1)), fresh, ongoing)
