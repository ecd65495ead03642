"""What the adapters of suites share: steps of definite types, and a time limit of our own."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import Space
from jaxrl_po.types import Array, PyTree


def limited(
    reset: Callable[[Array], tuple[PyTree, PyTree]],
    step: Callable[[Array, PyTree, Array], tuple[PyTree, PyTree, Array, Array]],
    action_space: Space,
    limit: int | None,
    env_params: Mapping[str, Any],
    action_mask: Callable[[PyTree], Array] | None = None,
) -> Environment:
    """An environment whose episodes a time limit cuts off: its parameter `max_steps_in_episode`.

    The suite's own limits and resets are out of its way: where an episode is cut off, the
    observation is the last of that episode. The state that a step is given is a copy, for some
    suites write into it, and what a step returns keeps the dtypes of the start.

    Args:
        reset: key -> observation, state.
        step: key, state, action in the environment's units -> observation, state, reward, whether
            the process itself has ended.
        action_space: of the environment.
        limit: steps of an episode, unless `env_params` says otherwise; None for no limit.
        env_params: overrides of parameters, by name.
        action_mask: as `Environment.action_mask`.

    Raises:
        ValueError: naming a parameter that is not there, or cannot be a limit.
    """
    for name in env_params:
        if name != "max_steps_in_episode":
            raise ValueError(
                f"env_params: no parameter {name!r}: {suggestion(name, ['max_steps_in_episode'])}"
            )
    limit = env_params.get("max_steps_in_episode", limit)
    known = limit is not None and not isinstance(limit, jax.core.Tracer)
    if known and not (np.ndim(limit) == 0 and limit >= 1):
        raise ValueError(f"env_params: max_steps_in_episode={limit!r} must be >= 1")
    float_dtype = jnp.zeros(()).dtype

    def begin(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = reset(key)
        return _strong(observation), (_strong(state), jnp.zeros((), jnp.int32))

    def one_step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        inner, time = state
        given = jax.tree.map(lambda x: x, inner)
        observation, after, reward, terminated = step(key, given, action_space.to_units(action))
        after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, inner)
        time = time + 1
        return (
            _strong(observation),
            (after, time),
            jnp.asarray(reward, float_dtype),
            jnp.asarray(terminated, bool),
            jnp.zeros((), bool) if limit is None else time >= params["max_steps_in_episode"],
        )

    return Environment(
        reset=begin,
        step=one_step,
        params={} if limit is None else {"max_steps_in_episode": limit},
        observation_shape=None,
        action_space=action_space,
        max_steps=limit,
        action_mask=action_mask,
    )


def _strong(tree: PyTree) -> PyTree:
    """Leaves as arrays of definite type: a Python 0 would make the loop's carry change type."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), tree)
