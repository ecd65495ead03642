"""Arguments checked by name before anything is made or compiled."""

import numbers
from typing import Any


def integer(name: str, value: Any, low: int = 1) -> int:
    """The value as an int.

    Raises:
        ValueError: naming the argument, when it is no integer or less than `low`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be an integer (>= {low}), not {value!r}")
    if value < low:
        raise ValueError(f"{name}={value} is out of range: it must be >= {low}")
    return int(value)


def seeds(seed: Any, num_seeds: Any) -> range:
    """The seeds of runs side by side: `seed`, `seed` + 1, …

    Raises:
        ValueError: naming the argument, when they are not numbers of 32 bits.
    """
    first = integer("seed", seed, 0)
    stop = first + integer("num_seeds", num_seeds)
    if stop > 2**32:
        raise ValueError(f"seed={seed} is out of range: seeds must be < 2**32")
    return range(first, stop)
