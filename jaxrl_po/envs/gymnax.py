"""Adapter to gymnax 1.x: its environments, and any object with the same interface."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.environment import Environment, check_environment, example_action
from jaxrl_po.spaces import Space, as_space
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
# Their own code mixes integers, or floats, of 32 and 64 bits.
REFUSED_IN_FLOAT64 = {
    *("DiscountingChain-bsuite", "Freeway-MinAtar", "GaussianBandit-misc", "MetaMaze-misc"),
}
REQUIRED = (
    *("reset_env", "step_env", "is_truncated", "observation_space", "action_space"),
    "default_params",
)


@functools.cache  # gymnax objects hash by identity: one object for each name
def _make(env_id: str) -> Any:
    import gymnax  # imports matplotlib, pandas and seaborn: seconds, so only when needed

    if env_id in REFUSED:
        raise ValueError(f"env_id={env_id!r} is not supported: {REFUSED[env_id]}")
    if env_id not in gymnax.registered_envs:
        raise ValueError(f"env_id={env_id!r}: {suggestion(env_id, gymnax.registered_envs)}")
    with jax.ensure_compile_time_eval():  # kept for later: it must hold no tracers of a sweep
        return gymnax.make(env_id)[0]


def gymnax_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """The environment that a gymnax name stands for, or that a gymnax-like object is.

    `step_env` returns (observation, state, reward, terminated, info). Its `terminated` is the end
    of the process itself; the time limit belongs to `is_truncated`, so that the value of the last
    state is bootstrapped there. Where both are true at once the end counts. An environment whose
    `terminated` (in older versions `done`) includes the limit that `is_truncated` tells too is
    refused, where its first step shows it; one whose `is_truncated` is false there has meant it.

    Args:
        env: a registered name, an object with gymnax's `reset_env`, `step_env`, `is_truncated`,
            `observation_space`, `action_space` and `default_params`, or such an object with the
            parameters in place of its own, as `gymnax.make` returns them.
        env_params: overrides of its parameters, by name.

    Raises:
        ValueError: naming the environment, the parameter or the space that does not fit.
    """
    name = env if isinstance(env, str) else None
    if name in REFUSED_IN_FLOAT64 and jnp.result_type(float) == jnp.float64:
        raise ValueError(f"env_id={name!r} is not supported with jax_enable_x64")
    env, own_params = _with_params(_make(env) if isinstance(env, str) else env)
    params = _override(own_params, env_params)
    float_dtype = jnp.zeros(()).dtype

    # Spaces describe the program, so their numbers must be known even while a sweep is traced;
    # actions have the bounds of the parameters all the same, see `step`.
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params))
    with jax.ensure_compile_time_eval():
        observation_space = env.observation_space(own_params)
        raw_action_space = env.action_space(own_params if is_traced else params)
        action_space = _action_space(raw_action_space, np)
    categories = getattr(observation_space, "n", None)  # a Discrete observation is one-hot coded
    shape = getattr(observation_space, "shape", None)

    def observe(observation: PyTree) -> PyTree:
        if categories is not None:
            return jax.nn.one_hot(observation, categories, dtype=float_dtype)
        return jax.tree.map(typed, observation)

    def typed(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, float_dtype if is_float else leaf.dtype)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = env.reset_env(key, params)
        return observe(observation), _strong(state)

    def step(
        key: Array, state: PyTree, action: Array, params: PyTree
    ) -> tuple[PyTree, PyTree, Array, Array, Array]:
        observation, next_state, reward, terminated = _step_env(
            env, key, state, to_env(action, params), params
        )
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

    def to_env(action: Array, params: PyTree) -> Array:
        if not action_space.continuous:
            return action.astype(getattr(raw_action_space, "dtype", action.dtype))
        space = _action_space(env.action_space(params), jnp) if is_traced else action_space
        return space.to_units(action)

    environment = Environment(
        reset=reset,
        step=step,
        params=params,
        observation_shape=(None if shape is None else tuple(shape))
        if categories is None
        else (categories,),
        action_space=action_space,
        max_steps=getattr(params, "max_steps_in_episode", None),
    )
    if name is None:
        check_environment(environment)
        _check_time_limit(env, own_params, to_env(example_action(action_space), own_params))
    return environment


def _with_params(env: Any) -> tuple[Any, Any]:
    """A gymnax environment and its parameters, or an error that says what came instead."""
    pair = isinstance(env, tuple) and len(env) == 2
    env, params = env if pair else (env, None)
    if isinstance(env, type):
        raise ValueError(f"env: give an object, {env.__name__}(), in place of its class")
    missing = [name for name in REQUIRED if not hasattr(env, name)]
    if missing:
        raise ValueError(
            f"env: a gymnax environment has {', '.join(missing)}; {env!r} does not. What is "
            "written in JAX to another interface can be given as a `jaxrl_po.envs.Environment("
            "reset, step, params, observation_shape, action_space, max_steps)`"
        )
    return env, params if pair else env.default_params


def _step_env(
    env: Any, key: Array, state: PyTree, action: Array, params: PyTree
) -> tuple[Any, ...]:
    """Observation, state, reward and termination of a step that returns what it should."""
    outcome = env.step_env(key, state, action, params)
    is_tuple = isinstance(outcome, tuple)
    if not is_tuple or len(outcome) != 5 or hasattr(outcome[4], "dtype"):
        found = [type(x).__name__ for x in outcome] if is_tuple else type(outcome).__name__
        raise ValueError(
            "env: step_env must return (observation, state, reward, terminated, info), the last a "
            f"dict, and leave the time limit to is_truncated(state, params); it returns {found}"
        )
    result: tuple[Any, ...] = outcome[:4]
    return result


def _check_time_limit(env: Any, params: Any, action: Array) -> None:
    """Raise where the first step under a limit of 1 is reported as an end that is none."""
    if not hasattr(params, "max_steps_in_episode") or any(
        isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)
    ):
        return

    def first_step(params: Any) -> tuple[Array, Array]:
        key = jax.random.key(0)
        _, state = env.reset_env(key, params)
        _, state, _, terminated = _step_env(env, key, _strong(state), action, params)
        return terminated, env.is_truncated(state, params)

    limit = params.max_steps_in_episode
    with jax.ensure_compile_time_eval():
        within = first_step(params)
        at_limit = first_step(params.replace(max_steps_in_episode=jnp.ones_like(limit)))
    flags = (*within, *at_limit)
    if any(isinstance(flag, jax.core.Tracer) for flag in flags):  # what the object holds is traced
        return
    if [bool(flag) for flag in flags] == [False, False, True, True]:
        raise ValueError(
            "env: step_env's `terminated` includes the time limit that is_truncated tells: the "
            "value of the last state would not be bootstrapped. Leave the limit to is_truncated, "
            "or return False there if the limit is a true end"
        )


def _override(params: Any, changes: Mapping[str, Any]) -> Any:
    if not changes:
        return params
    if not hasattr(params, "__dataclass_fields__"):
        raise ValueError(f"env_params: this environment's parameters have no names: {params!r}")
    fields = {field.name: field for field in dataclasses.fields(params)}
    for name in changes:
        if name not in fields:
            raise ValueError(f"env_params: no parameter {name!r}: {suggestion(name, fields)}")
    new = {
        name: _parameter(name, value, getattr(params, name), fields[name].type in (float, "float"))
        for name, value in changes.items()
    }
    params = dataclasses.replace(params, **new)
    derived = DERIVED.get(type(params).__module__, {})
    follow = {name: of(params) for name, of in derived.items() if name not in changes}
    return dataclasses.replace(params, **follow)


def _parameter(name: str, value: Any, default: Any, is_float: bool) -> Any:
    """The value in the type of the parameter's default, or an error that says what it may be."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not isinstance(default, bool | int | float) and not hasattr(default, "dtype"):
        raise ValueError(f"env_params: {name!r} is {default!r}, which no number can replace")
    if np.shape(value) != np.shape(default):
        raise ValueError(
            f"env_params: {name!r} must have shape {list(np.shape(default))}, not {value!r}"
        )
    dtype, array = jnp.result_type(default), np.asarray(value)
    is_bool = jnp.issubdtype(dtype, jnp.bool)
    if jnp.issubdtype(array.dtype, jnp.bool) and not is_bool:
        raise ValueError(f"env_params: {name!r} must be a number, not {value!r}")
    if is_float or jnp.issubdtype(dtype, jnp.floating):
        return value
    with np.errstate(invalid="ignore"):
        exact = array.astype(dtype)
    if (exact != array).any():
        kind = "True or False" if is_bool else f"an integer ({dtype})"
        raise ValueError(f"env_params: {name!r} must be {kind}, not {value!r}")
    return exact if exact.ndim else exact.item()


def _action_space(raw: Any, xp: Any) -> Space:
    space = as_space(raw, xp)
    if space is None:
        raise ValueError(
            f"env: actions must be a Discrete, MultiDiscrete or Box space, not {raw!r}"
        )
    return space


def _strong(state: PyTree) -> PyTree:
    """Leaves as arrays of definite type: a Python 0 would make the loop's carry change type."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
