"""JSON that any reader takes: arrays become lists, infinities and NaN the strings of protobuf's."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

NON_FINITE = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


def to_json(value: Any, indent: int | None = None) -> str:
    """The text of a value made of mappings, sequences, scalars, and NumPy or JAX arrays.

    Raises:
        ValueError: naming the first thing that is none of these.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def from_json(text: str | bytes) -> Any:
    """What `to_json` was given, arrays as lists.

    Raises:
        ValueError: when the text is not JSON.
    """
    try:
        return revived(json.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON; the order of names in mappings does not count."""
    text = json.dumps(_plain(value), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _named(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int | float):
        return value
    more = ": only what can be imported by its name can" if callable(value) else ""
    raise ValueError(f"{value!r} cannot be kept as JSON{more}")


def _named(key: Any, item: Any) -> Any:
    try:
        return _plain(item)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def revived(value: Any) -> Any:
    """What was read from JSON, with its infinities and NaN as numbers."""
    if isinstance(value, dict):
        return {name: revived(item) for name, item in value.items()}
    if isinstance(value, list):
        return [revived(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value
