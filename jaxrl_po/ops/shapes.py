"""What the doors of these functions check: broadcasting would mix samples without a word."""

from typing import Any

import jax.numpy as jnp


def check_one_shape(**arrays: Any) -> None:
    """Raise unless all arrays have the shape of the first; those that are None do not count.

    Raises:
        ValueError: naming the arrays and their shapes.
    """
    shapes = {name: jnp.shape(array) for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"these must be of one shape: {found}")
