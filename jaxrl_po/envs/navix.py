"""Adapter to navix: `navix:Navix-Empty-8x8-v0`."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Discrete
from jaxrl_po.types import Array, PyTree


def navix_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """A grid world, seen as the suite shows it; its own resets are left out.

    Args:
        env: a registered name, or what `navix.make` returns.
        env_params: `max_steps_in_episode`, the suite's own limit unless it says otherwise.
    """
    if isinstance(env, str):
        import navix  # an extra; seconds

        known = navix.registry()
        if env not in known:
            raise ValueError(f"env_id='navix:{env}': {suggestion(env, known)}")
        with jax.ensure_compile_time_eval():  # its numbers are arrays, which a sweep would trace
            env = navix.make(env)

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        timestep = env.reset(key)
        return timestep.observation, timestep

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        timestep = env._step(state, action)
        return timestep.observation, timestep, timestep.reward, timestep.is_termination()

    with jax.ensure_compile_time_eval():
        limit, space = int(env.max_steps), Discrete(int(env.action_space.maximum) + 1)
    return limited(reset, step, space, limit, env_params)
