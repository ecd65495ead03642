"""Fields of a config: the values they may take, and one error that names the field.

A `label` is what the error calls the field.
"""

import dataclasses
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config.messages import suggestion
from jaxrl_po.schedules import Schedule, values_of


@dataclasses.dataclass(frozen=True)
class Range:
    """The values a number may take, for checks and for error messages."""

    low: float = -np.inf
    high: float = np.inf
    open_low: bool = False  # the bound itself is not allowed
    open_high: bool = False
    infinite: bool = False  # infinity is meant where a float may be that large

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        lower = f"{'>' if self.open_low else '>='} {self.low:.10g}" if self.low > -np.inf else ""
        upper = f"{'<' if self.open_high else '<='} {self.high:.10g}" if self.high < np.inf else ""
        return " and ".join(filter(None, [lower, upper])) or "any number"


POSITIVE = Range(0.0, open_low=True)
NON_NEGATIVE = Range(0.0)
FRACTION = Range(0.0, 1.0)
COUNT = Range(1)
ANY = Range()


def setting(
    default: Any, allowed: Range | tuple[str, ...] = ANY, *, only_at_start: bool = False
) -> Any:
    """A config field with its default and the values it may take.

    What acts only at the start of a run has nothing that a schedule could move.
    """
    metadata = {"allowed": allowed, "only_at_start": only_at_start}
    return dataclasses.field(default=default, metadata=metadata)


def check_count(name: str, value: Any) -> int:
    """The number as an int, or an error unless it is a whole number of 1 or more."""
    return checked_int(name, value, COUNT)


def checked_schedule(label: str, schedule: Schedule, allowed: Range, movable: bool) -> Schedule:
    """The schedule, whose values a field takes, or an error."""
    if not movable:
        raise ValueError(
            f"{label} takes a number: it acts at the start of a run, where no schedule moves it"
        )
    for value in values_of(label, schedule):
        checked_float(f"{label} (a value of its schedule)", float(value), allowed)
    return schedule


def checked_bool(label: str, value: Any, allowed: Any) -> bool:
    """The truth value, or an error."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{label} must be True or False, not {value!r}")
    return bool(value)


def checked_string(label: str, value: Any, allowed: Any) -> str:
    """The string, one of those that are allowed, or an error."""
    if not isinstance(value, str):
        raise ValueError(f"{label} must be a string, not {value!r}")
    if isinstance(allowed, tuple) and value not in allowed:
        raise ValueError(f"{label}={value!r}: {suggestion(value, allowed)}")
    return value


def checked_integers(label: str, value: Any, allowed: Range) -> tuple[int, ...]:
    """Integers as a tuple, or an error."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{label} must be a tuple of integers, not {value!r}")
    return tuple(checked_int(label, item, allowed) for item in value)


def checked_int(label: str, value: Any, allowed: Range) -> int:
    """The integer, or an error."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{label} must be an integer ({allowed}), not {value!r}")
    if int(value) not in allowed:
        raise ValueError(f"{label}={value} is out of range: it must be {allowed}")
    return int(value)


def checked_float(label: str, value: Any, allowed: Range) -> Any:
    """The number, an array of numbers or a traced one, in its canonical type, or an error."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not _is_real(value):
        raise ValueError(f"{label} must be a number ({allowed}), not {value!r}")
    if not all(item in allowed for item in np.asarray(value).flat):
        raise ValueError(f"{label}={value} is out of range: it must be {allowed}")
    # What JAX's floats cannot hold would be infinite in the program.
    largest = float(jnp.finfo(jnp.result_type(float)).max)
    if not allowed.infinite and any(abs(item) > largest for item in np.asarray(value).flat):
        raise ValueError(f"{label}={value} is out of range: it must be {allowed}, and finite")
    return value if hasattr(value, "shape") and np.ndim(value) else _as_scalar(value)


def checked_static_float(label: str, value: Any, allowed: Range) -> float:
    """The number, known now, or an error."""
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        raise ValueError(f"{label} shapes the program: it must be one known number, not {value!r}")
    return float(checked_float(label, value, allowed))


def checked_parameters(label: str, value: Any) -> dict[str, Any]:
    """Values of an environment's parameters by name, or an error."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{label} must map parameter names to values, not {value!r}")
    return {key: _checked_parameter(f"{label}[{key!r}]", x) for key, x in value.items()}


def _checked_parameter(label: str, value: Any) -> Any:
    """A value for an environment's parameter: a number, a truth value, or an array of them."""
    if isinstance(value, jax.core.Tracer):
        return value
    is_bool = jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.bool)
    if not (is_bool or _is_real(value)):
        raise ValueError(f"{label} must be a number, not {value!r}")
    if any(item != item for item in np.asarray(value).flat):
        raise ValueError(f"{label}={value} is not a number")
    return value


def _is_real(value: Any) -> bool:
    if hasattr(value, "dtype"):
        kinds = jnp.integer, jnp.floating
        return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _as_scalar(value: Any) -> Any:
    """Python numbers stay Python floats; device scalars stay arrays."""
    return value if isinstance(value, jax.Array) else float(value)
