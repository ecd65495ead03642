"""Adapter to Jumanji: `jumanji:Snake-v1`, `jumanji:Game2048-v1`; one agent, single actions."""

import copy
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Discrete
from jaxrl_po.types import Array, PyTree

NEVER = 2**30  # steps


def jumanji_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """An environment with its `action_mask`, if it observes one, as the mask of its actions.

    Its own time limit, which it reports as an end, is put off: ours takes its place.

    Args:
        env: a registered name, or an object.
        env_params: `max_steps_in_episode`, the environment's own `time_limit` unless it says
            otherwise; without either there is no limit.
    """
    if isinstance(env, str):
        import jumanji  # an extra; seconds

        known = jumanji.registered_environments()
        if env not in known:
            raise ValueError(f"env_id='jumanji:{env}': {suggestion(env, known)}")
        with jax.ensure_compile_time_eval():  # its specs are checked when it is made
            env = jumanji.make(env)
    bare = copy.copy(env.unwrapped)
    limit = getattr(bare, "time_limit", None)
    if limit is not None:
        bare.time_limit = NEVER
    space = _action_space(bare)
    mask = getattr(bare.observation_spec, "action_mask", None)
    if mask is not None and tuple(mask.shape) != (space.num_outputs,):
        raise ValueError(
            f"env: {type(bare).__name__} masks actions by {list(mask.shape)} values, not one for "
            f"each of {space.num_outputs}, which policies cannot heed"
        )

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        state, timestep = bare.reset(key)
        return timestep.observation, state

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        state, timestep = bare.step(state, action)
        return timestep.observation, state, timestep.reward, timestep.last()

    return limited(
        reset,
        step,
        space,
        limit,
        env_params,
        None if mask is None else lambda observation: observation.action_mask.astype(bool),
    )


def _action_space(env: Any) -> Discrete:
    """Single actions of one agent, or an error that says what there is in their place."""
    spec, rewards = env.action_spec, np.shape(env.reward_spec.generate_value())
    name = type(env).__name__
    if rewards:
        raise ValueError(f"env: {name} rewards several agents, {list(rewards)}; one learns")
    if hasattr(spec, "num_values"):
        values = np.asarray(spec.num_values)
        if values.ndim:
            raise ValueError(
                f"env: {name} takes {values.size} choices at once, whose mask is of all "
                "combinations: policies have one for each choice"
            )
        return Discrete(int(values))
    raise ValueError(f"env: {name} takes actions {spec}, which policies do not give")
