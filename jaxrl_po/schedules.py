"""Schedules: numbers of a config that are functions of the fraction of a run that is done."""

import importlib
from collections.abc import Callable
from typing import Any

import jax

FRACTIONS = 0.0, 0.25, 0.5, 0.75, 1.0  # where a schedule's values are looked at beforehand

Schedule = Callable[[Any], Any]  # done [], from 0 at the first iteration towards 1 -> value []


def is_schedule(value: Any) -> bool:
    """Whether a field's value is a function, and no number."""
    return callable(value) and not hasattr(value, "dtype")


def as_schedule(label: str, text: str) -> Schedule:
    """The function that "module:name" names.

    Raises:
        ValueError: with the label of the field, when there is none.
    """
    module, _, path = text.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{label}={text!r} cannot be imported: {error}") from error
    if not is_schedule(found):
        raise ValueError(f"{label}={text!r} must be a function of the fraction done, not {found!r}")
    schedule: Schedule = found
    return schedule


def name_of(schedule: Schedule) -> str | None:
    """The text that `as_schedule` reads back; None of a function that cannot be imported."""
    module, name = (getattr(schedule, part, "") for part in ("__module__", "__qualname__"))
    text = f"{module}:{name}"
    try:
        return text if as_schedule("", text) is schedule else None
    except ValueError:
        return None


def values_of(label: str, schedule: Schedule) -> list[Any]:
    """A schedule's values at `FRACTIONS`, as numbers.

    Raises:
        ValueError: with the label of the field, when it fails or does not give single numbers.
    """
    with jax.ensure_compile_time_eval():
        try:
            values = [schedule(jax.numpy.float32(done)) for done in FRACTIONS]
        except Exception as error:
            raise ValueError(
                f"{label}: a schedule takes the fraction done; {schedule!r} fails: "
                f"{type(error).__name__}: {error}"
            ) from error
    for value in values:
        if not _is_number(value):
            raise ValueError(f"{label}: a schedule gives one number, not {value!r}")
    return values


def _is_number(value: Any) -> bool:
    if isinstance(value, float | int):
        return not isinstance(value, bool)
    is_real = hasattr(value, "dtype") and jax.numpy.issubdtype(value.dtype, jax.numpy.floating)
    return bool(is_real and value.shape == ())
