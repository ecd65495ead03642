"""Rows of a batch worked on a few at a time, so that memory does not grow with the batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array, PyTree

CHUNK = 2**21  # numbers that a chunk's largest output may have


def rows_that_fit(size: int) -> int:
    """The most rows of `size` numbers that `CHUNK` holds."""
    return max(1, CHUNK // size)


def is_kept(size: int) -> bool:
    """Whether so many numbers are kept rather than computed again: no more than two chunks hold."""
    return size <= 2 * CHUNK


def rows_at_once(num_rows: int, size: int) -> int:
    """The most rows of `size` numbers that `CHUNK` holds, of those that divide their number."""
    most = rows_that_fit(size)
    return max(n for n in range(1, min(num_rows, most) + 1) if num_rows % n == 0)


def in_chunks(function: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    """function(rows) for a function of rows [R, ...], called with `size` of them at a time.

    A chunk takes rows from all over the batch, so that where rows are cut over devices each has
    its share of every chunk. Where `size` does not divide R, the last row is taken several times.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    if size >= num_rows:
        return function(rows)
    missing = -num_rows % size
    if missing:
        index = jnp.minimum(jnp.arange(num_rows + missing), num_rows - 1)
        rows = jax.tree.map(lambda x: x[index], rows)
    chunks = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]).swapaxes(0, 1), rows)

    def join(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[:num_rows]

    return jax.tree.map(join, jax.lax.map(function, chunks))
