"""Environments that step on the host: vector environments of EnvPool and of Gymnasium.

What they show and how they act is known here, for the network and the policy's description. They
cannot be a part of a compiled program: `jaxrl_po.run` and `sweep` collect from them in between.
"""

import difflib
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config.messages import described
from jaxrl_po.envs.environment import Environment
from jaxrl_po.spaces import as_space
from jaxrl_po.types import Array, PyTree


class HostEnvironment(NamedTuple):
    """What makes vector environments, as `env` of `run`; names of suites make their own.

        HostEnvironment(lambda num_envs, seeds: gymnasium.make_vec("Hopper-v5", num_envs))

    `make` is called with a number of environments and a seed for each. What it returns has the
    interface of a Gymnasium vector environment and is reset with these seeds; EnvPool's, which
    take none there, must be made with them. Any of Gymnasium's conventions of automatic resets
    will do, but for an environment that neither resets in the same step nor takes a `reset_mask`.
    """

    make: Callable[[int, list[int]], Any]
    name: str = "env"


def envpool_environment(env: str, env_params: Mapping[str, Any]) -> Environment:
    """EnvPool's environment of a name; `env_params` are options of `envpool.make`."""
    return _face_of_name("envpool", env, env_params)


def gymnasium_environment(env: str, env_params: Mapping[str, Any]) -> Environment:
    """Gymnasium's environment of a name; `env_params` are its own keywords."""
    return _face_of_name("gymnasium", env, env_params)


def _face_of_name(suite: str, env: Any, env_params: Mapping[str, Any]) -> Environment:
    if not isinstance(env, str):
        raise ValueError(
            f"env: {described(env)} steps on the host, and as many are needed as there are "
            "environments and evaluations: give `run` what makes them, "
            "env=HostEnvironment(lambda num_envs, seeds: …), see `jaxrl_po.envs.HostEnvironment`"
        )
    return face(_named(suite, env, _hashable(env_params)))


def host_environment(
    env_id: str, env: Any, env_params: Mapping[str, Any]
) -> HostEnvironment | None:
    """What makes the vector environments of a config, or of an object; None of a compiled one."""
    if env is not None:
        return env if isinstance(env, HostEnvironment) else None
    suite, _, name = env_id.partition(":")
    return _named(suite, name, _hashable(env_params)) if suite in MAKERS else None


def face(host: HostEnvironment) -> Environment:
    """What is known of an environment that steps on the host, for all but its steps."""
    observation, action_space = _spaces(host)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), observation), ()

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> NoReturn:
        raise ValueError(
            f"{host.name} steps on the host and cannot be compiled: train it with `jaxrl_po.run`, "
            "which also evaluates it, or `sweep`"
        )

    return Environment(reset, step, {}, None, action_space, None)


@functools.lru_cache(maxsize=64)
def _spaces(host: HostEnvironment) -> tuple[PyTree, Any]:
    """Shapes and dtypes of one observation as it will be stored, and the actions."""
    env = host.make(1, [0])
    try:
        observed, acts = single_spaces(env)
        space = as_space(acts)
        if space is None:
            raise ValueError(f"{host.name}: its actions are {acts}, which is not supported")
        shapes = _shapes(host.name, observed)
        return jax.tree.map(_channels_last, shapes) if is_envpool(env) else shapes, space
    finally:
        env.close()


def single_spaces(env: Any) -> tuple[Any, Any]:
    """The spaces of one of a vector environment's members; EnvPool says them plainly."""
    return tuple(
        getattr(env, f"single_{kind}", None) or getattr(env, kind)
        for kind in ("observation_space", "action_space")
    )


def is_picture(array: Any) -> bool:
    """Whether an array [..., C, H, W] of EnvPool is bytes with their channels in front."""
    shape = array.shape[-3:]
    return array.dtype == np.uint8 and len(shape) == 3 and shape[0] < shape[-1]


def is_choice(array: Any, shape: jax.ShapeDtypeStruct) -> bool:
    """Whether observations [N] are one of n each, where [N, n] is stored."""
    coded = np.issubdtype(shape.dtype, np.floating) and len(shape.shape) == np.ndim(array) == 1
    return coded and np.issubdtype(jax.dtypes.result_type(array), np.integer)


def _channels_last(array: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Pictures are [H, W, C] here, as networks and other suites have them."""
    if not is_picture(array):
        return array
    channels, height, width = array.shape
    return jax.ShapeDtypeStruct((height, width, channels), array.dtype)


def is_envpool(env: Any) -> bool:
    """Whether a vector environment is one of EnvPool's."""
    return any(kind.__module__.split(".")[0] == "envpool" for kind in type(env).__mro__)


def _shapes(name: str, space: Any) -> PyTree:
    """The arrays of a Gymnasium space, in the precision that JAX computes in."""
    if hasattr(space, "spaces"):
        if not isinstance(space.spaces, Mapping):
            raise ValueError(f"{name}: observations are {space}: only dicts of arrays have names")
        return {key: _shapes(name, each) for key, each in space.spaces.items()}
    if space.shape is None or space.dtype is None:
        raise ValueError(f"{name}: observations are {space}, which are no arrays of numbers")
    if hasattr(space, "n") and space.shape == ():  # one of n, which has no size: coded one-hot
        if getattr(space, "start", 0):
            raise ValueError(f"{name}: observations are {space}: only those from 0 on are coded")
        return jax.ShapeDtypeStruct((int(space.n),), jax.dtypes.canonicalize_dtype(float))
    return jax.ShapeDtypeStruct(space.shape, jax.dtypes.canonicalize_dtype(space.dtype))


Options = tuple[tuple[str, Any], ...]


def _hashable(env_params: Mapping[str, Any]) -> Options:
    for name, value in env_params.items():
        if np.ndim(value) or isinstance(value, jax.core.Tracer):
            raise ValueError(
                f"env_params: {name} of an environment on the host must be one number, "
                f"not {value!r}"
            )
    return tuple((name, np.asarray(value).item()) for name, value in sorted(env_params.items()))


@functools.lru_cache(maxsize=64)
def _named(suite: str, name: str, options: Options) -> HostEnvironment:
    env_id = f"{suite}:{name}"
    make = MAKERS[suite](name)

    def made(num_envs: int, seeds: Sequence[int]) -> Any:
        try:
            return make(num_envs, seeds, dict(options))
        except TypeError as error:  # what a constructor makes of a keyword it does not have
            taken = f"env_params: {env_id} does not take {dict(options)}"
            raise ValueError(f"{taken}: {error}") from error

    return HostEnvironment(made, env_id)


def _envpool(name: str) -> Callable[..., Any]:
    envpool = importlib.import_module("envpool")
    known = envpool.list_all_envs()
    if name not in known:
        raise ValueError(f"env_id='envpool:{name}': {_nearest(name, known)}")

    def make(num_envs: int, seeds: Sequence[int], options: dict[str, Any]) -> Any:
        return envpool.make(
            name, env_type="gymnasium", num_envs=num_envs, seed=list(seeds), **options
        )

    return make


def _gymnasium(name: str) -> Callable[..., Any]:
    gymnasium = importlib.import_module("gymnasium")
    known = list(gymnasium.registry)
    if name not in known:
        raise ValueError(f"env_id='gymnasium:{name}': {_nearest(name, known)}")
    disabled = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}

    def make(num_envs: int, seeds: Sequence[int], options: dict[str, Any]) -> Any:
        try:
            return gymnasium.make_vec(
                name, num_envs, vectorization_mode="sync", vector_kwargs=disabled, **options
            )
        except gymnasium.error.Error as error:  # such as one whose simulator is not installed
            raise ValueError(f"env_id='gymnasium:{name}': {error}") from error

    return make


def _nearest(name: str, known: list[str]) -> str:
    """Of more names than an error should list."""
    nearest = difflib.get_close_matches(name, known, n=5)
    return f"did you mean one of {', '.join(nearest)}?" if nearest else "there is no such task"


MAKERS = {"envpool": _envpool, "gymnasium": _gymnasium}
