"""Adapter to MuJoCo Playground: `playground:CartpoleBalance`."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Box
from jaxrl_po.types import Array, PyTree


def playground_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """A task of Playground. Its `done` is the end of the process, its episode length our limit.

    Where it shows several arrays, policy and critic see what it calls "state"; what only a
    simulator knows ("privileged_state") is left out.

    Args:
        env: a name, or what `mujoco_playground.registry.load` returns.
        env_params: `max_steps_in_episode`, the task's own episode length unless it says otherwise.
    """
    if isinstance(env, str):
        from mujoco_playground import registry  # an extra; seconds

        if env not in registry.ALL_ENVS:
            raise ValueError(f"env_id='playground:{env}': {suggestion(env, registry.ALL_ENVS)}")
        # Its default, Warp, runs on NVIDIA's GPUs alone.
        changes = {} if jax.default_backend() == "gpu" else {"impl": "jax"}
        env = registry.load(env, config_overrides=changes)

    def seen(state: Any) -> PyTree:
        return state.obs["state"] if isinstance(state.obs, Mapping) else state.obs

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return seen(state), state

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        state = env.step(state, action)
        return seen(state), state, state.reward, state.done

    bounds = np.ones(env.action_size)
    limit = int(env._config.episode_length)
    return limited(reset, step, Box(-bounds, bounds), limit, env_params)
