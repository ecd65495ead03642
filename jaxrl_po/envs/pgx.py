"""Adapter to Pgx: `pgx:minatar-breakout`, `pgx:2048`; the games of one player."""

from collections.abc import Mapping
from typing import Any

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.adapter import limited
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Discrete
from jaxrl_po.types import Array, PyTree


def pgx_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """A game of one player, whose illegal moves are masked: they would lose it.

    Observations are Pgx's own in MinAtar, where all moves are legal, and else a dict of "board" and
    "legal", which the mask reads. The state carries none of them, for they follow from it.

    Args:
        env: a name, or an object.
        env_params: `max_steps_in_episode`; without it there is no limit.
    """
    if isinstance(env, str):
        import pgx  # an extra; seconds

        known = pgx.available_envs()
        if env not in known:
            raise ValueError(f"env_id='pgx:{env}': {suggestion(env, known)}")
        env = pgx.make(env)
    if env.num_players != 1:
        raise ValueError(f"env: {env.id} has {env.num_players} players; one can be trained")
    masked = not env.id.startswith("minatar")

    def observe(state: Any) -> PyTree:
        if not masked:
            return state.observation
        return {"board": state.observation, "legal": state.legal_action_mask}

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        state = env.init(key)
        return observe(state), state.replace(observation=())

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array]:
        state = env.step(state, action, key)
        return (
            observe(state),
            state.replace(observation=()),
            state.rewards[0],
            state.terminated,
        )

    return limited(
        reset,
        step,
        Discrete(env.num_actions),
        None,
        env_params,
        (lambda observation: observation["legal"]) if masked else None,
    )
