"""The methods: each a config and an update, all in the one loop of `jaxrl_po.loop.train`."""

from collections.abc import Callable, Mapping
from typing import Any

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
    name = fields.pop("algorithm", None)
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm={name!r}: {suggestion(str(name), ALGORITHMS)}")
    return ALGORITHMS[name][0](**fields)


def make_algorithm(config: Config, network: Network) -> Algorithm:
    """The update that `config` describes, acting on `network`."""
    return ALGORITHMS[config.algorithm][1](config, network)


__all__ = [
    "ALGORITHMS",
    "NPGConfig",
    "PPOConfig",
    "PPOPenaltyConfig",
    "TRPOConfig",
    "VPGConfig",
    "config_from_dict",
    "make_algorithm",
]
