"""Many small arrays as few larger ones, so that a loop's body is fewer kernels."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.types import Array, PyTree

MAX_ROW = 64  # numbers a row of a leaf may have to be packed; moving larger ones costs more


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays"],
    meta_fields=["members", "shapes", "treedef"],
)
@dataclasses.dataclass(frozen=True)
class Packed:
    """A tree's leaves [*batch, ...], the small ones of one dtype side by side as [*batch, K],
    a large one as a flat row of its own: gathered faster than rows of several axes.

    A pytree itself, which a loop may carry, stack, index or choose from by its arrays: the way
    back comes along.
    """

    arrays: list[Array]
    members: tuple[tuple[int, ...], ...]  # numbers of the leaves in each array
    shapes: tuple[tuple[int, ...], ...]  # of a row of each leaf
    treedef: Any

    def unpack(self) -> PyTree:
        """The tree, with the batch axes that the arrays have now."""
        leaves: list[Any] = [None] * len(self.shapes)
        for array, members in zip(self.arrays, self.members, strict=True):
            end = 0
            for i in members:
                begin, end = end, end + int(np.prod(self.shapes[i], dtype=int))
                leaves[i] = array[..., begin:end].reshape(*array.shape[:-1], *self.shapes[i])
        return jax.tree.unflatten(self.treedef, leaves)


def pack(tree: PyTree, num_axes: int) -> Packed:
    """Pack a tree of arrays that share their first `num_axes` axes."""
    leaves, treedef = jax.tree.flatten(tree)
    shapes = [np.shape(leaf)[num_axes:] for leaf in leaves]
    groups: dict[Any, list[int]] = {}
    for index, (leaf, shape) in enumerate(zip(leaves, shapes, strict=True)):
        small = np.prod(shape, dtype=int) <= MAX_ROW and not jnp.issubdtype(
            leaf.dtype, jax.dtypes.extended
        )
        groups.setdefault(leaf.dtype if small else index, []).append(index)
    rows = [leaf.reshape(*leaf.shape[:num_axes], -1) for leaf in leaves]
    arrays = [jnp.concatenate([rows[i] for i in members], axis=-1) for members in groups.values()]
    return Packed(arrays, tuple(map(tuple, groups.values())), tuple(shapes), treedef)
