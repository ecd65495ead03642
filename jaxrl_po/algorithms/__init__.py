"""The methods: each a config and an update, all in the one loop of `jaxrl_po.loop.train`."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxrl_po.algorithms.ppo import PPOConfig, PPOPenaltyConfig, ppo, ppo_penalty
from jaxrl_po.algorithms.trpo import NPGConfig, TRPOConfig, npg, trpo
from jaxrl_po.algorithms.vpg import VPGConfig, vpg
from jaxrl_po.config import Config, suggestion
from jaxrl_po.types import Algorithm, Network

ALGORITHMS: dict[str, tuple[type[Config], Callable[[Any, Network], Algorithm]]] = {
    "vpg": (VPGConfig, vpg),
    "npg": (NPGConfig, npg),
    "trpo": (TRPOConfig, trpo),
    "ppo": (PPOConfig, ppo),
    "ppo_penalty": (PPOPenaltyConfig, ppo_penalty),
}


def config_from_dict(settings: Mapping[str, Any]) -> Config:
    """The config that a plain dict describes: its "algorithm", and any of that config's fields.

    Raises:
        ValueError: naming what is unknown or out of range, and what is allowed.
    """
    fields = dict(settings)
    return config_class(fields.pop("algorithm", None)).from_fields(fields)


def config_class(name: Any) -> type[Config]:
    """The config class of a method: by its name, or "module:Class" for one of your own.

    Raises:
        ValueError: when there is none, saying what is wrong with it.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name][0]
    module, colon, path = str(name).partition(":")
    if not colon:
        known = suggestion(str(name), ALGORITHMS)
        raise ValueError(f"algorithm={name!r}: {known}; or module:Class for a config of your own")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"algorithm={name!r} cannot be imported: {error}") from error
    check_config_class(found)
    own: type[Config] = found
    return own


def check_config_class(cls: Any) -> None:
    """Raise unless this is a config class that the loop can run.

    Raises:
        ValueError: saying what it lacks.
    """
    label = getattr(cls, "__qualname__", repr(cls))
    if not (isinstance(cls, type) and issubclass(cls, Config)):
        raise ValueError(f"algorithm: {label} is not a subclass of jaxrl_po.config.Config")
    own = cls.__dict__.get("__dataclass_params__")
    if own is None or not own.frozen or not dataclasses.is_dataclass(cls):
        raise ValueError(
            f"algorithm: decorate {label} with @dataclasses.dataclass(frozen=True, kw_only=True)"
        )
    if jax.tree_util.all_leaves([object.__new__(cls)]):
        raise ValueError(f"algorithm: decorate {label} with @jaxrl_po.config.pytree")
    if not (hasattr(cls, "make_algorithm") or _factory(cls)):
        raise ValueError(
            f"algorithm: {label} needs make_algorithm(self, network) -> jaxrl_po.types.Algorithm, "
            "or a config of one of the library's methods as its base"
        )


def make_algorithm(config: Config, network: Network) -> Algorithm:
    """The update that `config` describes, acting on `network`.

    That is `config.make_algorithm(network)` where its class has it, for methods of your own, and
    the library's otherwise.
    """
    if hasattr(config, "make_algorithm"):
        algorithm = config.make_algorithm(network)
        if not isinstance(algorithm, Algorithm):
            raise ValueError(
                f"{type(config).__name__}.make_algorithm must return a jaxrl_po.types.Algorithm"
                f"(init, update), not {type(algorithm).__name__}"
            )
        return algorithm
    factory = _factory(type(config))
    assert factory is not None
    return factory(config, network)


def _factory(cls: type[Config]) -> Callable[[Any, Network], Algorithm] | None:
    """The library's update for a config class, or for the nearest of its bases that has one."""
    factories = dict(ALGORITHMS.values())
    return next((factories[base] for base in cls.__mro__ if base in factories), None)


__all__ = [
    "ALGORITHMS",
    "NPGConfig",
    "PPOConfig",
    "PPOPenaltyConfig",
    "TRPOConfig",
    "VPGConfig",
    "check_config_class",
    "config_class",
    "config_from_dict",
    "make_algorithm",
]
