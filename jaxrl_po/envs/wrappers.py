"""Environments made of environments."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.envs.environment import Environment
from jaxrl_po.types import Array, PyTree


def stack_frames(env: Environment, count: int = 4) -> Environment:
    """The environment with its last observations side by side, along the last axis, newest last.

    An episode begins with copies of its first. The frames that are no longer shown are part of the
    state; a rollout holds each observation with all its frames, in the environment's own dtype.

    Args:
        env: the environment, without an `action_mask`.
        count: frames of an observation.

    Raises:
        ValueError: when there is a mask, which reads one frame, or no frame to add.

    Examples:
        >>> from jaxrl_po.envs import make_environment
        >>> env = stack_frames(make_environment("CartPole-v1", {}), 2)
        >>> observation, state = env.reset(jax.random.key(0), env.params)
        >>> observation.shape
        (8,)
    """
    _check_no_mask(env)
    if not isinstance(count, int) or count < 2:
        raise ValueError(f"count={count!r}: a stack has 2 frames or more")

    def stacked(frames: Sequence[PyTree]) -> PyTree:
        return jax.tree.map(lambda *each: jnp.concatenate(each, axis=-1), *frames)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = env.reset(key, params)
        frames = [observation] * count
        return stacked(frames), (state, tuple(frames[1:]))

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        state, frames = state
        observation, state, *rest = env.step(key, state, action, params)
        frames = (*frames, observation)
        return stacked(frames), (state, frames[1:]), *rest

    return env._replace(reset=reset, step=step, observation_shape=None)


def transform_observation(env: Environment, see: Callable[[PyTree], PyTree]) -> Environment:
    """The environment seen through a function of one observation.

        pendulum = make_environment("Pendulum-v1", {})
        transform_observation(pendulum, lambda o: o[:2])      # without its velocity

    Args:
        env: the environment, without an `action_mask`.
        see: observation -> what is seen of it, a pure function.

    Raises:
        ValueError: when there is a mask, which would read what it cannot see.
    """
    _check_no_mask(env)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = env.reset(key, params)
        return see(observation), state

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        observation, *rest = env.step(key, state, action, params)
        return see(observation), *rest

    return env._replace(reset=reset, step=step, observation_shape=None)


def _check_no_mask(env: Environment) -> None:
    if env.action_mask is not None:
        raise ValueError(
            "env: its action_mask reads the observation as it was: wrap the environment without "
            "its mask, and give it one of what is then observed"
        )
