"""States as named NumPy arrays, the form in which they are kept on disk, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrl_po.types import PyTree


def to_host(blocks: list[PyTree]) -> dict[str, np.ndarray]:
    """The members [S, ...] of all blocks, leaf by leaf under its path; keys as their data."""
    named = [jax.tree_util.tree_leaves_with_path(block) for block in blocks]
    return {
        path_name(parts[0][0]): np.concatenate([_key_data(leaf) for _, leaf in parts])
        for parts in zip(*named, strict=True)
    }


def from_host(template: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Put named arrays back into a pytree of the template's structure.

    Raises:
        ValueError: naming the leaf that is missing, left over, or of another shape or type.
    """
    named, treedef = jax.tree_util.tree_flatten_with_path(template)
    names = [path_name(path) for path, _ in named]
    for name in sorted(set(names) ^ set(arrays)):
        what = "is missing from" if name in names else "is unknown, but in"
        raise ValueError(f"{name} {what} the saved state")
    leaves = []
    for name, (_, leaf) in zip(names, named, strict=True):
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        expected = jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf
        array = arrays[name]
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{name} is {array.dtype}{list(array.shape)} in the saved state, "
                f"where {expected.dtype}{list(expected.shape)} is needed"
            )
        value = jax.device_put(array)
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


def _key_data(leaf: Any) -> np.ndarray:
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
