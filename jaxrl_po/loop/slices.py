"""A pass over a whole rollout, in slices that bound what it holds at a time."""

from collections.abc import Callable

import jax

from jaxrl_po.fast.blocks import by_blocks, cut, join
from jaxrl_po.types import PyTree

SLICE = 2**24  # numbers of observations that a pass over a rollout takes at once


def in_slices(
    function: Callable[[PyTree], PyTree], rows: PyTree, num_blocks: int = 1, axis: int = 0
) -> PyTree:
    """function(rows) of rows [R, ...], in slices of `SLICE` numbers or less where there are more.

    A network takes numbers of any type as floats: those of a whole rollout of pixels would be
    several times as large as the rollout. Of several blocks along an axis each is sliced by itself.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(rows))

    def of_block(block: PyTree) -> PyTree:
        num_rows = jax.tree.leaves(block)[0].shape[0]
        enough = (n for n in range(1, num_rows) if num_rows % n == 0 and size <= n * SLICE)
        num_slices = next(enough, num_rows)
        if num_slices == 1:
            return function(block)
        slices = cut(block, num_slices)
        return join(jax.lax.map(function, slices))

    return by_blocks(of_block, num_blocks, axis, axis)(rows)
