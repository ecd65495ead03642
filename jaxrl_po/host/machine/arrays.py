"""States as named NumPy arrays, the form in which they are kept on disk, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from jaxrl_po.types import PyTree


def to_host(blocks: list[PyTree], keep: bool = True) -> dict[str, np.ndarray]:
    """The members [S, ...] of all blocks, leaf by leaf under its path; keys as their data.

    Args:
        blocks: of arrays, some of which may lie on devices of other processes.
        keep: False in a process that has no use for them, and takes part for the others' sake.
    """
    if not keep:
        for parts in zip(*map(jax.tree.leaves, blocks), strict=True):  # in the others' order
            for leaf in parts:
                _pieces(_data(leaf))
        return {}
    named = [jax.tree_util.tree_leaves_with_path(block) for block in blocks]
    return {
        path_name(parts[0][0]): _gathered([_data(leaf) for _, leaf in parts])
        for parts in zip(*named, strict=True)
    }


def from_host(
    template: PyTree, arrays: Mapping[str, np.ndarray], shardings: PyTree | None = None
) -> PyTree:
    """Put named arrays back into a pytree of the template's structure, one after the other.

    Args:
        template: arrays, or their shapes.
        arrays: by path, as `to_host` names them.
        shardings: a pytree of one for each leaf; None puts all on one device.

    Raises:
        ValueError: naming the leaf that is missing, left over, or of another shape or type.
    """
    named, treedef = jax.tree_util.tree_flatten_with_path(template)
    names = [path_name(path) for path, _ in named]
    for name in sorted(set(names) ^ set(arrays)):
        what = "is missing from" if name in names else "is unknown, but in"
        raise ValueError(f"{name} {what} the saved state")
    places = [None] * len(names) if shardings is None else jax.tree.leaves(shardings)
    leaves = []
    for name, (_, leaf), place in zip(names, named, places, strict=True):
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        expected = jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf
        array = arrays[name]
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{name} is {array.dtype}{list(array.shape)} in the saved state, "
                f"where {expected.dtype}{list(expected.shape)} is needed"
            )
        value = _put(array, place)
        if is_key:
            value = jax.random.wrap_key_data(value, impl=_generator(leaf))
        leaves.append(value)
    return jax.tree.unflatten(treedef, leaves)


def path_name(path: Any) -> str:
    """Where a leaf stands in its tree, as "params/policy/head/params/Dense_0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _generator(key: Any) -> Any:
    """The generator of a key of which there may be no more than shape and dtype."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return found[0]


def _put(array: np.ndarray, place: Sharding | None) -> jax.Array:
    if place is None:
        placed: jax.Array = jax.device_put(array)
        return placed
    # Unlike `device_put`, this asks no other process whether it has the same array.
    return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


def _gathered(parts: list[Any]) -> np.ndarray:
    """The rows of all parts, copied once."""
    count = sum(len(part) for part in parts)
    whole, first = np.empty((count, *parts[0].shape[1:]), parts[0].dtype), 0
    for part in parts:
        rows = whole[first : first + len(part)]
        for index, piece in _pieces(part):
            rows[index] = piece
        first += len(part)
    return whole


def _pieces(array: Any) -> list[tuple[Any, Any]]:
    """What an array consists of, and where it belongs in it: shards, if it lies on many devices."""
    if not isinstance(array, jax.Array) or len(array.sharding.device_set) == 1:
        return [(..., array)]
    if array.is_fully_replicated:
        return [(..., array.addressable_data(0))]
    if not array.is_fully_addressable:  # some are in other processes
        return [(..., multihost_utils.process_allgather(array, tiled=True))]
    return [(s.index, s.data) for s in array.addressable_shards if s.replica_id == 0]


def _data(leaf: Any) -> Any:
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf
