"""Packing and its way back are inverse; large leaves and keys stay arrays of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.fast.packing import MAX_ROW, pack

TREE = {
    "a": jnp.arange(6.0).reshape(2, 3, 1),
    "b": jnp.arange(6, dtype=jnp.int32).reshape(2, 3),
    "c": jnp.arange(24.0).reshape(2, 3, 2, 2),
    "done": jnp.array([[True, False, True]] * 2),
    "large": jnp.arange(6.0 * 72).reshape(2, 3, 9, 8),
    "key": jax.random.split(jax.random.key(0), (2, 3)),
    "empty": (),
}


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("num_axes", [1, 2])
def test_the_way_back_is_the_inverse(num_axes):
    equal(pack(TREE, num_axes).unpack(), TREE)


def test_small_leaves_of_a_type_become_one():
    arrays = pack(TREE, 2).arrays
    assert sorted(str(x.dtype) for x in arrays) == sorted(
        ["float32", "int32", "bool", "float32", "key<fry>"]
    )
    assert arrays[0].shape == (2, 3, 5)
    assert MAX_ROW < 72
    assert (2, 3, 72) in [x.shape for x in arrays]


def test_the_way_back_takes_any_batch():
    row = jax.tree.map(lambda x: x[0], pack(TREE, 2))
    assert jax.tree.structure(row) == jax.tree.structure(
        pack(jax.tree.map(lambda x: x[0], TREE), 1)
    )
    equal(row.unpack(), jax.tree.map(lambda x: x[0], TREE))


def test_a_loop_hands_the_way_back_out():
    row = jax.tree.map(lambda x: x[0], TREE)
    _, rows = jax.lax.scan(lambda carry, _: (carry, pack(row, 1)), (), length=2)
    equal(rows.unpack(), jax.tree.map(lambda x: jnp.stack([x, x]), row))


def test_scalars():
    scalars = {"x": jnp.float32(1), "y": jnp.float32(2), "n": jnp.int32(3)}
    packed = pack(scalars, 0)
    assert [x.shape for x in packed.arrays] == [(1,), (2,)]  # n, then x and y: dicts are sorted
    equal(packed.unpack(), scalars)
