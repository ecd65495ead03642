"""Adapter to XLand-MiniGrid: `xminigrid:MiniGrid-Empty-8x8`."""

from collections.abc import Mapping
from typing import Any

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Discrete
from jaxrl_po.types import Array, PyTree


def xminigrid_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """A grid world seen as tiles and colours around the agent, whole numbers [5, 5, 2].

    Args:
        env: a registered name, or what `xminigrid.make` returns: (environment, parameters).
        env_params: `max_steps_in_episode`, the suite's own limit unless it says otherwise.
    """
    if isinstance(env, str):
        from xminigrid.registration import make, registered_environments  # an extra; seconds

        known = registered_environments()
        if env not in known:
            raise ValueError(f"env_id='xminigrid:{env}': {suggestion(env, known)}")
        env = make(env)
    if not (isinstance(env, tuple) and len(env) == 2):
        raise ValueError(
            "env: give an XLand-MiniGrid environment with its parameters, as xminigrid.make does"
        )
    made, params = env

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        timestep = made.reset(params, key)
        return timestep.observation, timestep

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        timestep = made.step(params, state, action)
        # Its limit ends an episode with a discount of 1, the goal with one of 0.
        return timestep.observation, timestep, timestep.reward, timestep.discount == 0

    limit = params.max_steps if params.max_steps is not None else made.time_limit(params)
    return limited(reset, step, Discrete(made.num_actions(params)), int(limit), env_params)
