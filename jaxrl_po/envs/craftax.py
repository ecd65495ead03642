"""Adapter to Craftax: `craftax:Craftax-Symbolic-v1`, `craftax:Craftax-Classic-Symbolic-v1`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Discrete
from jaxrl_po.types import Array, PyTree

NEVER = jnp.iinfo(jnp.int32).max  # steps
GAMES = tuple(
    f"Craftax{kind}-{seen}-v1" for kind in ("", "-Classic") for seen in ("Symbolic", "Pixels")
)


def craftax_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """A game of Craftax, whose own resets are left out and whose time limit is ours.

    The game reports its limit as an end, so it is played with a limit that is never met.

    Args:
        env: a name, or an object; `step_env` does not reset, whatever its `step` does.
        env_params: `max_steps_in_episode`, the game's own limit unless it says otherwise.
    """
    if isinstance(env, str):
        if env not in GAMES:
            raise ValueError(f"env_id='craftax:{env}': {suggestion(env, GAMES)}")
        from craftax.craftax_env import make_craftax_env_from_name  # an extra; seconds

        env = make_craftax_env_from_name(env, auto_reset=False)
    own = env.default_params
    params = own.replace(max_timesteps=NEVER)

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        observation, state = env.reset_env(key, params)
        return observation, state

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        observation, state, reward, ended, _ = env.step_env(key, state, action, params)
        return observation, state, reward, ended

    space = Discrete(int(env.action_space(params).n))
    return limited(reset, step, space, int(own.max_timesteps), env_params)
