"""What numbers depend on beside a config: objects given by the caller, JAX's switches, versions."""

import collections.abc
import dataclasses
import functools
import hashlib
import importlib.metadata
import platform
import types
from typing import Any

import jax
import numpy as np

from jaxrl_po.version import __version__

SWITCHES = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
)
PACKAGES = ("jaxrl-po", "jax", "jaxlib", "flax", "optax", "distrax", "gymnax", "numpy")
# Classes from here are what their name and the versions say; others are what their code says.
# So are those of suites on the host, which fill caches of their own while they are used.
NAMED = {name.replace("-", "_") for name in PACKAGES} | {"builtins", "abc", "typing", "enum"}
NAMED |= {"envpool", "gymnasium"}
CIRCLE = "a part that holds it"


def numerics() -> dict[str, Any]:
    """JAX's switches that change numbers, and the kind of device."""
    switches = {name: getattr(jax.config, name) for name in SWITCHES}
    return {**switches, "backend": jax.default_backend()}


def tracing() -> tuple[Any, ...]:
    """JAX's switches by which a function becomes another program."""
    return *numerics().items(), jax.debug_nans.value


def versions() -> dict[str, str]:
    """Of Python, as far as its bytecode depends on it, and of the packages that compute."""
    packages = {name: version(name) for name in PACKAGES}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **packages}


def version(package: str) -> str:
    """That of a package; of this library also where it is not installed but on the path."""
    return __version__ if package == "jaxrl-po" else importlib.metadata.version(package)


def fingerprint(value: Any, *more: Any) -> str:
    """The class of an object, and a digest of all that it consists of; the same in any process.

    That is its attributes, of functions their code, defaults and closures; from outside the
    packages above also the globals that functions use, and the code of classes. Of objects that
    show none of it, it is the class alone.

    Args:
        value: the object.
        more: what belongs to it, for the digest.
    """
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__} {_digest((value, *more), {})[:16]}"


def _digest(value: Any, seen: dict[int, tuple[str, Any]]) -> str:
    if id(value) not in seen:  # which keeps the object, so that no other takes its id
        seen[id(value)] = CIRCLE, value
        text = repr((f"{type(value).__module__}.{type(value).__qualname__}", _parts(value, seen)))
        seen[id(value)] = hashlib.sha256(text.encode()).hexdigest(), value
    return seen[id(value)][0]


def _parts(value: Any, seen: dict[int, tuple[str, Any]]) -> Any:
    """Text that stands for a value, from that of its parts."""

    def each(values: Any) -> list[str]:
        return [_digest(item, seen) for item in values]

    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | np.dtype():
            return repr(value)
        case types.ModuleType() | types.BuiltinFunctionType():
            return value.__name__
        case jax.Array() | np.ndarray() | np.generic():
            return _array_parts(value, each)
        case types.CodeType() | types.FunctionType():
            return _code_parts(value, each)
        case types.MethodType() | functools.partial() | property():
            return each(_held(value))
        case type():
            name = f"{value.__module__}.{value.__qualname__}"
            return name, each([] if _is_named(value) else [_body(value)])
        case collections.abc.Mapping():
            return sorted(zip(each(value.keys()), each(value.values()), strict=True))
        case list() | tuple():
            return each(value)
        case set() | frozenset():
            return sorted(each(value))
    if wrapped := getattr(value, "__wrapped__", None):
        return each([wrapped])
    return each([type(value), _attributes(value)])


def _code_parts(value: Any, each: Any) -> Any:
    if isinstance(value, types.CodeType):
        return value.co_code.hex(), value.co_names, each(value.co_consts)
    own = [value.__code__, value.__defaults__, value.__kwdefaults__]
    used = {} if _is_named(value) else _globals(value)
    closure = map(_contents, value.__closure__ or ())
    return value.__qualname__, each(own), each(closure), list(used), each(used.values())


def _held(value: Any) -> list[Any]:
    """The function that a method, a partial or a property holds, and what it is called with."""
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    return [value.fget]


def _is_named(value: Any) -> bool:
    """Whether a function or class is one of the packages that the versions stand for."""
    return str(value.__module__).split(".")[0] in NAMED


def _globals(function: types.FunctionType) -> dict[str, Any]:
    """The globals whose names occur in a function and in those within it."""
    codes, names = [function.__code__], set[str]()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    known = function.__globals__
    return {name: known[name] for name in sorted(names) if name in known}


def _array_parts(value: Any, each: Any) -> Any:
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        return array.shape, each(array.tolist())
    return str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()


def _attributes(value: Any) -> Any:
    """An object's own: of a dataclass its fields, without what its library keeps beside them."""
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    if type(value).__module__.startswith("gymnasium.spaces"):
        return repr(value)  # the generator that it draws samples by is no part of what it is
    if hasattr(value, "__dict__"):
        return vars(value)
    try:
        return value.__reduce_ex__(4)
    except Exception:  # whatever an object's own code raises: it cannot be taken apart
        return None


def _body(kind: type) -> list[Any]:
    """Bases, functions and constants of a class, without what Python adds."""
    members = {
        name: member
        for name, member in vars(kind).items()
        if isinstance(member, types.FunctionType) or not name.startswith("__")
    }
    return [kind.__bases__, members]


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
