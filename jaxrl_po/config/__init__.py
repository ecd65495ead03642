"""Configs: frozen dataclasses whose floats are data and whose everything else is structure."""

from jaxrl_po.config.fields import (
    ANY,
    COUNT,
    FRACTION,
    NON_NEGATIVE,
    POSITIVE,
    Range,
    check_count,
    setting,
)
from jaxrl_po.config.records import (
    ENV_PARAMS,
    MEMORY_KINDS,
    Config,
    EnvironmentConfig,
    NetworkConfig,
    with_env_params,
)
from jaxrl_po.config.settings import Settings, data_fields, pytree

__all__ = [
    "ANY",
    "COUNT",
    "ENV_PARAMS",
    "FRACTION",
    "MEMORY_KINDS",
    "NON_NEGATIVE",
    "POSITIVE",
    "Config",
    "EnvironmentConfig",
    "NetworkConfig",
    "Range",
    "Settings",
    "check_count",
    "data_fields",
    "pytree",
    "setting",
    "with_env_params",
]
