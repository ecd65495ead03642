"""Many small arrays as few larger ones, so that a loop's body is fewer kernels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.types import Array, PyTree

MAX_ROW = 64  # numbers a row of a leaf may have to be packed; moving larger ones costs more


def pack(tree: PyTree, num_axes: int) -> tuple[list[Array], Callable[[list[Array]], PyTree]]:
    """The leaves [*batch, ...] of a tree, those of one dtype side by side as [*batch, K].

    Args:
        tree: arrays that share their first `num_axes` axes.
        num_axes: how many.

    Returns:
        The packed arrays, and the way back, which takes them with any batch axes.
    """
    leaves, treedef = jax.tree.flatten(tree)
    shapes = [np.shape(leaf)[num_axes:] for leaf in leaves]
    groups: dict[Any, list[int]] = {}
    for index, (leaf, shape) in enumerate(zip(leaves, shapes, strict=True)):
        small = np.prod(shape, dtype=int) <= MAX_ROW and not jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.extended
        )
        groups.setdefault(leaf.dtype if small else index, []).append(index)

    def pack_leaves(leaves: list[Array]) -> list[Array]:
        return [
            leaves[members[0]]
            if len(members) == 1
            else jnp.concatenate(
                [leaves[i].reshape(*leaves[i].shape[:num_axes], -1) for i in members], axis=-1
            )
            for members in groups.values()
        ]

    def unpack(packed: list[Array]) -> PyTree:
        leaves: list[Any] = [None] * len(shapes)
        for array, members in zip(packed, groups.values(), strict=True):
            if len(members) == 1:
                leaves[members[0]] = array
                continue
            end = 0
            for i in members:
                begin, end = end, end + int(np.prod(shapes[i], dtype=int))
                leaves[i] = array[..., begin:end].reshape(*array.shape[:-1], *shapes[i])
        return jax.tree.unflatten(treedef, leaves)

    return pack_leaves(leaves), unpack
