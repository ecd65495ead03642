"""Blocks of environments: what is done within each of them stays on one device."""

from collections.abc import Callable
from typing import Any

import jax

from jaxrl_po.types import PyTree


def cut(tree: PyTree, num_blocks: int, axis: int = 0) -> PyTree:
    """Leaves [..., N, ...] as [..., M, N / M, ...]: M blocks of neighbours along an axis."""
    return jax.tree.map(
        lambda x: x.reshape(*x.shape[:axis], num_blocks, -1, *x.shape[axis + 1 :]), tree
    )


def join(tree: PyTree, axis: int = 0) -> PyTree:
    """The way back from `cut`."""
    return jax.tree.map(
        lambda x: x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :]),
        tree,
    )


def by_blocks(
    function: Callable[..., PyTree], num_blocks: int, axis: int = 0, out_axis: int = 0
) -> Callable[..., PyTree]:
    """A function of pytrees [..., N, ...], applied to each of M blocks of them by itself.

    An axis that is cut over devices cannot be folded into one that stands before it, nor picked
    from by numbers that are not known, unless all devices hand each other what they have. Within a
    block, with an axis for the blocks of its own, both are local.

    Args:
        function: pytrees with samples along `axis` -> a pytree with samples along `out_axis`.
        num_blocks: M, which divides N; for 1 this is the function itself.
        axis: of the samples in what it takes.
        out_axis: of the samples in what it gives.
    """
    if num_blocks == 1:
        return function

    def blockwise(*trees: Any) -> PyTree:
        outputs = jax.vmap(function, in_axes=axis, out_axes=out_axis)(
            *(cut(tree, num_blocks, axis) for tree in trees)
        )
        return join(outputs, out_axis)

    return blockwise
