"""A pass over a whole rollout, in slices that bound what it holds at a time."""

from collections.abc import Callable
from typing import Any

import jax

from jaxrl_po.fast.blocks import cut, join
from jaxrl_po.types import Network, PyTree

SLICE = 2**24  # numbers of observations that a pass over a rollout takes at once


def in_slices(function: Callable[[PyTree], PyTree], rows: PyTree, num_blocks: int = 1) -> PyTree:
    """function(rows) of rows [R, ...], in slices of `SLICE` numbers or less where there are more.

    A network takes numbers of any type as floats: those of a whole rollout of pixels would be
    several times as large as the rollout, and what its layers give far larger. A derivative
    computes that anew, a slice at a time. Of several blocks a slice has a share of each, in their
    order.
    """
    leaves = jax.tree.leaves(rows)
    size, num_rows = sum(leaf.size for leaf in leaves), leaves[0].shape[0] // num_blocks
    enough = (n for n in range(1, num_rows) if num_rows % n == 0 and size <= n * SLICE)
    num_slices = next(enough, num_rows)
    if num_slices == 1:
        return function(rows)

    def swapped(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.swapaxes(0, 1), tree)

    slices = join(swapped(cut(cut(rows, num_blocks), num_slices, 1)), 1)
    outputs = jax.lax.map(jax.checkpoint(function), slices)
    return join(join(swapped(cut(outputs, num_blocks, 1))))


def policy_in_slices(network: Network, num_blocks: int) -> Callable[[PyTree, PyTree, PyTree], Any]:
    """(params, observation [R, ...], memory [R, ...]) -> π(·|s) of as many samples as there are."""

    def policy(params: PyTree, observation: PyTree, memory: PyTree) -> Any:
        def of_slice(rows: tuple[PyTree, PyTree]) -> Any:
            return network.policy(params, *rows)[0]

        return in_slices(of_slice, (observation, memory), num_blocks)

    return policy
