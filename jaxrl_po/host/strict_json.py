"""JSON that every reader takes: numbers of NumPy and JAX, and no bare Infinity or NaN."""

import json
import os
import re
from typing import Any

import numpy as np

# Strings are matched whole, so that what stands inside them stays.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_SPELLING = {"Infinity": "1e999", "-Infinity": "-1e999", "NaN": "null"}


def dumps(name: str, value: Any, indent: int | None = None) -> str:
    """A value as JSON; infinity is the number 1e999, which reads back as inf, and NaN is null.

    Args:
        name: what the value is called, for errors.
        value: dicts, lists and tuples of numbers, texts, paths and arrays.
        indent: as for `json.dumps`.

    Raises:
        ValueError: naming what has no form in JSON.
    """
    try:
        text = json.dumps(value, indent=indent, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}") from None
    return _TOKENS.sub(lambda match: _SPELLING.get(match[0], match[0]), text)


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "dtype"):
        return np.asarray(value).tolist()
    raise TypeError(f"{value!r} is a {type(value).__name__}")
