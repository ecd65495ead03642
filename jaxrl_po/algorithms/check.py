"""What a method of one's own must be: its config class, its update, its optimiser."""

import dataclasses
import inspect
from typing import Any

import jax
import optax

from jaxrl_po.config import Config, data_fields
from jaxrl_po.config.messages import described
from jaxrl_po.types import AlgorithmFactory, Optimizer


def check_config_class(cls: Any, has_update: bool) -> None:
    """Raise unless this is a config class that the loop can run.

    Args:
        cls: the class.
        has_update: whether the library has an update for it.

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
    if not (hasattr(cls, "make_algorithm") or has_update):
        raise ValueError(
            f"algorithm: {label} needs make_algorithm(self, network) -> jaxrl_po.types.Algorithm, "
            "or a config of one of the library's methods as its base"
        )


def check_method(
    config: Config, algorithm: AlgorithmFactory | None, optimizer: Optimizer | None
) -> None:
    """Raise unless the update and the optimiser handed in go with each other and the config.

    Raises:
        ValueError: naming the argument, what came and what is wanted.
    """
    own = getattr(config, "make_algorithm", None)
    if algorithm is not None:
        if not callable(algorithm) or isinstance(algorithm, type):
            raise ValueError(
                "algorithm must be a function (config, network) -> jaxrl_po.types.Algorithm, such "
                f"as jaxrl_po.algorithms.trpo.trpo, not {described(algorithm)}; a method of the "
                "library is chosen by its config"
            )
        _check_takes("algorithm", algorithm, optimizer, "config", "network")
    elif own is not None:
        _check_takes(f"{type(config).__name__}.make_algorithm", own, optimizer, "network")
    if optimizer is not None:
        _check_optimizer(config, optimizer)


def _check_takes(name: str, function: Any, optimizer: Optimizer | None, *given: str) -> None:
    """Raise unless a function takes what is given, and an optimiser where there is one."""
    more = {} if optimizer is None else {"optimizer": optimizer}
    try:
        inspect.signature(function).bind(*given, **more)
    except TypeError as error:
        wanted = ", ".join([*given, *more])
        raise ValueError(f"{name} must take ({wanted}): {error}") from None


def _check_optimizer(config: Config, optimizer: Optimizer) -> None:
    if type(config).make_optimizer is not Config.make_optimizer:
        raise ValueError(
            f"optimizer: {type(config).__name__}.make_optimizer makes one of its own already"
        )
    made: Any = optimizer
    if callable(optimizer):
        try:
            made = optimizer(1e-3)
        except TypeError as error:
            raise ValueError(f"optimizer must take a learning rate alone: {error}") from None
    if not isinstance(made, optax.GradientTransformation):
        returned = "return " if callable(optimizer) else ""
        raise ValueError(
            f"optimizer must {returned or 'be '}an optax.GradientTransformation, or be a function "
            f"of a learning rate that makes one, such as optax.adamw, not {returned}"
            f"{described(made)}"
        )
    rates = [name for name in data_fields(type(config)) if name.endswith("learning_rate")]
    for name in [*rates, "anneal_lr"]:
        config.check_effect(
            name, callable(optimizer), "an optimizer made of a learning rate, such as optax.adamw"
        )
