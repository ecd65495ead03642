"""Adapter to Brax: `brax:ant`, or `brax:ant/spring` for one of its backends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Box
from jaxrl_po.types import Array, PyTree

BACKENDS = "generalized", "positional", "spring", "mjx"
LIMIT = 1000  # steps of an episode in Brax's own training


def brax_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """A Brax environment. Its `done` is the end of the process; its wrappers are taken off.

    Args:
        env: a name, with "/backend" behind it for another than Brax's default, or an object.
        env_params: `max_steps_in_episode`, 1,000 unless it says otherwise.
    """
    if isinstance(env, str):
        from brax import envs  # an extra; seconds

        name, slash, backend = env.partition("/")
        if name not in envs._envs:
            raise ValueError(f"env_id='brax:{env}': {suggestion(name, envs._envs)}")
        if slash and backend not in BACKENDS:
            raise ValueError(f"env_id='brax:{env}': backend {suggestion(backend, BACKENDS)}")
        env = envs.get_environment(name, **{"backend": backend} if slash else {})
    bare = env.unwrapped

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        state = bare.reset(key)
        return state.obs, state

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        state = bare.step(state, action)
        return state.obs, state, state.reward, state.done

    bounds = np.ones(bare.action_size)
    return limited(reset, step, Box(-bounds, bounds), LIMIT, env_params)
