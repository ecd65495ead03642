"""What numbers depend on beside a config: objects given by the caller, JAX's switches, versions."""

import collections.abc
import dataclasses
import functools
import hashlib
import importlib.metadata
import platform
import sys
import types
from typing import Any

import flax
import jax
import numpy as np

from jaxrl_po.config import Settings
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
    return f"{kind.__module__}.{kind.__qualname__} {_digest((value, *more), {}, False)[:16]}"


def program_identity(made_of: tuple[Any, ...], *objects: Any) -> Any:
    """What stands for a program in this process: where it is equal, what is made is the same.

    A fingerprint that also has what functions read from other modules, the objects themselves, and
    JAX's switches. Where something cannot be told, an object that equals no other.
    """
    try:
        digest = _digest(made_of, {}, True)
    except Exception:  # of an object's own code, or too deep
        return object()
    return digest, *map(id, objects), *numerics().items(), jax.debug_nans.value


def _digest(value: Any, seen: dict[int, tuple[str, Any]], live: bool) -> str:
    if id(value) not in seen:  # which keeps the object, so that no other takes its id
        seen[id(value)] = CIRCLE, value
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        text = repr((kind, _parts(value, seen, live)))
        seen[id(value)] = hashlib.sha256(text.encode()).hexdigest(), value
    return seen[id(value)][0]


def _parts(value: Any, seen: dict[int, tuple[str, Any]], live: bool) -> Any:
    """Text that stands for a value, from that of its parts."""

    def each(values: Any) -> list[str]:
        return [_digest(item, seen, live) for item in values]

    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | np.dtype():
            return repr(value)
        case types.ModuleType() | types.BuiltinFunctionType():
            return value.__name__
        case jax.Array() | np.ndarray() | np.generic():
            return _array_parts(value, each)
        case types.CodeType() | types.FunctionType():
            return _code_parts(value, each, live)
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
    wrapper = _is_named(type(value)) or type(value).__module__ == "functools"
    if (wrapper or not live) and (wrapped := getattr(value, "__wrapped__", None)):
        return each([wrapped])  # JAX's and Python's own are nothing beside it
    return each([type(value), _attributes(value, live)])


def _code_parts(value: Any, each: Any, live: bool) -> Any:
    if isinstance(value, types.CodeType):
        return value.co_code.hex(), value.co_names, each(value.co_consts)
    own = [value.__code__, value.__defaults__, value.__kwdefaults__]
    used = {} if _is_named(value) else _globals(value, live)
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


def _globals(function: types.FunctionType, live: bool) -> dict[str, Any]:
    """The globals whose names occur in a function and in those within it.

    In the live process also what they may read from other modules, by the names that occur.
    """
    codes, names = [function.__code__], set[str]()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    known = function.__globals__
    found = {name: known[name] for name in sorted(names) if name in known}
    modules = [(name, item) for name, item in found.items() if live and _is_others(item)]
    for path, module in modules:  # which grows: a module may be read from a module
        for name in sorted(names & vars(module).keys()):
            item = vars(module)[name]
            if _is_others(item) and all(item is not other for _, other in modules):
                modules.append((f"{path}.{name}", item))
            found[f"{path}.{name}"] = item
    return found


def _is_others(value: Any) -> bool:
    """Whether it is a module whose code no version stands for."""
    root = getattr(value, "__name__", "").split(".")[0]
    return isinstance(value, types.ModuleType) and root not in NAMED | sys.stdlib_module_names


def _array_parts(value: Any, each: Any) -> Any:
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        return array.shape, each(array.tolist())
    return str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()


def _attributes(value: Any, live: bool) -> Any:
    """An object's own: of a dataclass its fields, in the live process also what lies beside them.

    There use may add to it what it has computed, and no file is to tell that for another object.
    """
    if type(value).__module__.startswith("gymnasium.spaces"):
        return repr(value)  # the generator that it draws samples by is no part of what it is
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    own = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        kept = isinstance(value, Settings | flax.linen.Module)  # beside its fields, by its library
        return own | fields | ({} if kept or not live else getattr(value, "__dict__", {}))
    if hasattr(value, "__dict__"):
        return own | vars(value)
    try:
        return value.__reduce_ex__(4)
    except Exception:  # whatever an object's own code raises: it cannot be taken apart
        return None


def _slots(kind: type) -> list[str]:
    """The attributes that a class has beside a `__dict__`."""
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")]


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
