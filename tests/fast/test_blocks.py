"""Blocks: cut, joined, and each by itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.fast.blocks import by_blocks, cut, join


@pytest.mark.parametrize("axis", [0, 1])
def test_a_block_is_of_neighbours_and_joins_again(axis):
    x = np.arange(24).reshape(4, 6) if axis else np.arange(24).reshape(6, 4)
    [blocks] = cut([jnp.asarray(x)], 3, axis)
    np.testing.assert_array_equal(blocks, np.stack(np.split(x, 3, axis), axis))
    np.testing.assert_array_equal(join(blocks, axis), x)


@pytest.mark.parametrize(("axis", "out_axis"), [(0, 0), (1, 1), (1, 0)])
def test_each_block_goes_by_itself(axis, out_axis):
    """Its own mean is taken from each, and an output may have its samples along another axis."""
    x = np.arange(36.0).reshape(6, 6) ** 2

    def function(block):
        rest = block - block.mean()
        return rest if axis == out_axis else rest.T

    expected = np.concatenate([function(part) for part in np.split(x, 3, axis)], out_axis)
    found = by_blocks(function, 3, axis, out_axis)(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert by_blocks(function, 1, axis, out_axis) is function
