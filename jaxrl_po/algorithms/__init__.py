"""The methods: each a config and an update, all in the one loop of `jaxrl_po.loop.train`."""

import functools
import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from jaxrl_po.algorithms.check import check_config_class, check_method
from jaxrl_po.algorithms.ppo import PPOConfig, PPOPenaltyConfig, ppo, ppo_penalty
from jaxrl_po.algorithms.trpo import NPGConfig, TRPOConfig, npg, trpo
from jaxrl_po.algorithms.vpg import VPGConfig, vpg
from jaxrl_po.config import Config
from jaxrl_po.config.messages import described, suggestion
from jaxrl_po.types import Algorithm, AlgorithmFactory, Network, Optimizer

ENTRY_POINTS = "jaxrl_po.algorithms"  # the group that packages name methods of theirs in
ALGORITHMS: dict[str, tuple[type[Config], AlgorithmFactory]] = {
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

    Examples:
        >>> config_from_dict({"algorithm": "trpo", "max_kl": 0.02}).max_kl
        0.02
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
    installed = installed_methods()
    module, colon, path = installed.get(name, str(name)).partition(":")
    if not colon:
        known = suggestion(str(name), [*ALGORITHMS, *installed])
        raise ValueError(f"algorithm={name!r}: {known}; or module:Class for a config of your own")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"algorithm={name!r} cannot be imported: {error}") from error
    check_class(found)
    own: type[Config] = found
    return own


@functools.cache
def installed_methods() -> dict[str, str]:
    """The methods that installed packages bring: name -> "module:Class".

    A package names them in its own pyproject.toml, under the entry points of `ENTRY_POINTS`; a
    name of the library's stays the library's.
    """
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return {point.name: point.value for point in points if point.name not in ALGORITHMS}


def check_class(cls: Any) -> None:
    """Raise unless this is a config class that the loop can run."""
    check_config_class(cls, isinstance(cls, type) and _factory(cls) is not None)


def make_algorithm(
    config: Config,
    network: Network,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
) -> Algorithm:
    """The update of a method, acting on `network`.

    Args:
        config: its settings.
        network: policy and value.
        algorithm: (config, network) -> `Algorithm`. None for `config.make_algorithm(network)`
            where the config's class has it, for methods of your own, and else the library's.
        optimizer: what takes the steps of minibatch descent, see `make_descent`. The function that
            makes the update is given it as `optimizer=`.

    Raises:
        ValueError: naming the argument, what came and what is wanted.
    """
    check_method(config, algorithm, optimizer)
    more = {} if optimizer is None else {"optimizer": optimizer}
    name, factory = "algorithm", algorithm or _factory(type(config))
    if algorithm is None and hasattr(config, "make_algorithm"):
        name = f"{type(config).__name__}.make_algorithm"
        made = config.make_algorithm(network, **more)
    else:
        assert factory is not None  # `check_class` has seen to it
        made = factory(config, network, **more)
    if not isinstance(made, Algorithm):
        raise ValueError(
            f"{name} must return a jaxrl_po.types.Algorithm(init, update), not {described(made)}"
        )
    return made


def _factory(cls: type[Config]) -> AlgorithmFactory | None:
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
    "check_class",
    "config_class",
    "config_from_dict",
    "installed_methods",
    "make_algorithm",
]
