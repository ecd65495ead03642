"""Adapter to gymnax 1.x: its environments, and any object with the same interface."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import suggestion
from jaxrl_po.envs.environment import Box, Discrete, Environment
from jaxrl_po.types import Array, PyTree

# Parameters that are others' sum or product, and that gymnax computes for its defaults alone, by
# the module of the parameters' class. They follow the others, unless they are given themselves.
DERIVED: dict[str, dict[str, Callable[[Any], Any]]] = {
    "gymnax.environments.classic_control.cartpole": {
        "total_mass": lambda params: params.masscart + params.masspole,
        "polemass_length": lambda params: params.masspole * params.length,
    },
}
REFUSED = {"MNISTBandit-bsuite": "it downloads MNIST when it is made"}


@functools.cache  # gymnax objects hash by identity: one object for each name
def _make(env_id: str) -> Any:
    import gymnax  # imports matplotlib, pandas and seaborn: seconds, so only when needed

    if env_id in REFUSED:
        raise ValueError(f"env_id={env_id!r} is not supported: {REFUSED[env_id]}")
    if env_id not in gymnax.registered_envs:
        raise ValueError(f"env_id={env_id!r}: {suggestion(env_id, gymnax.registered_envs)}")
    with jax.ensure_compile_time_eval():  # kept for later: it must hold no tracers of a sweep
        return gymnax.make(env_id)[0]


def make_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """The environment that a gymnax name stands for, or that a gymnax-like object is.

    Args:
        env: a registered name, or an object with gymnax's `reset_env`, `step_env`,
            `is_truncated`, `observation_space`, `action_space` and `default_params`.
        env_params: overrides of its parameters, by name.

    Raises:
        ValueError: naming the environment, the parameter or the space that does not fit.
    """
    env = _make(env) if isinstance(env, str) else env
    required = ("reset_env", "step_env", "is_truncated", "observation_space", "action_space")
    missing = [name for name in required if not hasattr(env, name)]
    if missing:
        raise ValueError(f"env: a gymnax environment has {', '.join(missing)}; {env!r} does not")
    params = _override(env.default_params, env_params)
    float_dtype = jnp.zeros(()).dtype

    # Spaces describe the program, so their numbers must be known even while a sweep is traced;
    # actions have the bounds of the parameters all the same, see `step`.
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params))
    with jax.ensure_compile_time_eval():
        observation_space = env.observation_space(env.default_params)
        raw_action_space = env.action_space(env.default_params if is_traced else params)
        action_space = _action_space(raw_action_space)
    categories = getattr(observation_space, "n", None)  # a Discrete observation is one-hot coded
    shape = getattr(observation_space, "shape", None)
    if categories is None and shape is None:
        raise ValueError(
            f"env: observations must be a Box or Discrete space, not {observation_space!r}"
        )

    def observe(observation: Array) -> Array:
        if categories is not None:
            return jax.nn.one_hot(observation, categories, dtype=float_dtype)
        return jnp.asarray(observation, float_dtype)

    def reset(key: Array, params: PyTree) -> tuple[Array, PyTree]:
        observation, state = env.reset_env(key, params)
        return observe(observation), _strong(state)

    def step(
        key: Array, state: PyTree, action: Array, params: PyTree
    ) -> tuple[Array, PyTree, Array, Array, Array]:
        if isinstance(action_space, Box):
            bounds = _bounds(env.action_space(params), jnp) if is_traced else action_space
            action = to_bounds(action, bounds).reshape(action_shape)
        observation, next_state, reward, terminated, *_ = env.step_env(key, state, action, params)
        truncated = env.is_truncated(next_state, params)
        # The state keeps the types it had at the reset, so that the loop can carry it.
        next_state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), next_state, state)
        return (
            observe(observation),
            next_state,
            jnp.asarray(reward, float_dtype),
            jnp.asarray(terminated, bool),
            jnp.asarray(truncated, bool),
        )

    action_shape = getattr(raw_action_space, "shape", ())
    return Environment(
        reset=reset,
        step=step,
        params=params,
        observation_shape=tuple(shape or ()) if categories is None else (categories,),
        action_space=action_space,
        max_steps=getattr(params, "max_steps_in_episode", None),
    )


def to_bounds(action: Array, space: Box) -> Array:
    """Actions [..., D] from half-ranges to the environment's units; unbounded ones stay."""
    xp: Any = np if isinstance(space.low, np.ndarray) else jnp  # constants stay constants
    bounded = xp.isfinite(space.low) & xp.isfinite(space.high)
    low, high = (xp.where(bounded, bound, 0.0) for bound in (space.low, space.high))

    def spread(numbers: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(numbers, action.dtype), action.shape)

    scaled = action * spread(xp.where(bounded, (high - low) / 2, 1.0)) + spread((low + high) / 2)
    # Clipped in the environment's units, so that a bound is met exactly.
    return jnp.clip(scaled, spread(space.low), spread(space.high))


def _override(params: Any, changes: Mapping[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(params)]
    for name in changes:
        if name not in known:
            raise ValueError(f"env_params: no parameter {name!r}: {suggestion(name, known)}")
    if not changes:
        return params
    params = params.replace(**changes)
    derived = DERIVED.get(type(params).__module__, {})
    return params.replace(
        **{name: of(params) for name, of in derived.items() if name not in changes}
    )


def _action_space(space: Any) -> Discrete | Box:
    if getattr(space, "n", None) is not None:
        return Discrete(int(space.n))
    if hasattr(space, "low") and hasattr(space, "high"):
        return _bounds(space, np)
    raise ValueError(f"env: actions must be a Discrete or Box space, not {space!r}")


def _bounds(space: Any, xp: Any) -> Box:
    """The bounds of a gymnax Box as vectors, of NumPy or of JAX."""
    low, high = (
        xp.broadcast_to(xp.asarray(bound, float), space.shape).reshape(math.prod(space.shape))
        for bound in (space.low, space.high)
    )
    return Box(low, high, tuple(space.shape))


def _strong(state: PyTree) -> PyTree:
    """Leaves as arrays of definite type: a Python 0 would make the loop's carry change type."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
