"""Environments made of environments."""

from collections.abc import Callable
from typing import Any

from jaxrl_po.envs.environment import Environment
from jaxrl_po.types import Array, PyTree


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
    if env.action_mask is not None:
        raise ValueError(
            "env: its action_mask reads the observation as it was: transform the environment "
            "without its mask, and give it one of what is then observed"
        )

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = env.reset(key, params)
        return see(observation), state

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        observation, *rest = env.step(key, state, action, params)
        return see(observation), *rest

    return env._replace(reset=reset, step=step, observation_shape=None)
