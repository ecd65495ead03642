"""Minibatches: orders are permutations, and steps keep the types of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl_po.algorithms.minibatch import descend, random_orders
from jaxrl_po.fast import optimizer as fast_optimizer
from jaxrl_po.fast.optimizer import to_vector


@pytest.mark.parametrize("size", [1, 2, 7, 512, 1000])
def test_orders_are_permutations_that_differ(size):
    orders = np.asarray(random_orders(jax.random.key(0), 3, size))
    np.testing.assert_array_equal(np.sort(orders, axis=1), [np.arange(size)] * 3)
    if size >= 7:
        assert not (orders[0] == orders[1]).all()


def test_samples_are_equally_likely_in_all_places():
    size, num = 12, 20_000
    orders = np.asarray(random_orders(jax.random.key(1), num, size))
    counts = np.stack([np.bincount(orders[:, place], minlength=size) for place in range(size)])
    expected = num / size
    chi_squared = (np.square(counts - expected) / expected).sum()
    degrees = (size - 1) ** 2
    assert abs(chi_squared - degrees) < 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize(
    ("dtypes", "flat", "limit", "sizes"),
    [
        (("float32", "float32"), True, 5, [5]),
        (("float32", "float32"), True, 4, [2, 3]),
        (("float32", "float32"), False, 5, [2, 3]),
        (("bfloat16", "float32"), True, 5, [2, 3]),
    ],
)
def test_a_step_keeps_the_dtype_of_each_parameter(dtypes, flat, limit, sizes, monkeypatch):
    monkeypatch.setattr(fast_optimizer, "VECTOR_SIZE", limit)
    params = {str(n): jnp.ones(n, dtype) for n, dtype in zip((2, 3), dtypes, strict=True)}
    vector, _ = to_vector(params, flat)
    assert [leaf.size for leaf in jax.tree.leaves(vector)] == sizes
    optimizer = optax.adam(0.1)
    loss = lambda params, batch: (optax.tree.norm(params).astype(float), {})  # noqa: E731
    new, opt_state, _ = descend(
        jax.random.key(0),
        loss,
        optimizer,
        params,
        optimizer.init(vector),
        jnp.zeros(1),
        num_epochs=1,
        num_minibatches=1,
        flat=flat,
    )
    assert [leaf.dtype for leaf in jax.tree.leaves(new)] == list(dtypes)
    assert [leaf.dtype for leaf in jax.tree.leaves(opt_state[0].mu)] == list(dtypes[: len(sizes)])
    assert all((leaf < 1).all() for leaf in jax.tree.leaves(new))


@pytest.mark.parametrize("num_minibatches", [2**12, 2**15])
def test_large_batches_are_shuffled_like_small_ones(num_minibatches):
    """The mean place of a minibatch's samples varies as that of samples drawn at random."""
    size = 2**19
    orders = np.asarray(random_orders(jax.random.key(2), 1, size))
    np.testing.assert_array_equal(np.sort(orders[0]), np.arange(size))
    means = orders.reshape(num_minibatches, -1).mean(1) / size
    expected = np.sqrt(num_minibatches / size / 12)
    assert means.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * num_minibatches))
