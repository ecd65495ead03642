"""Minibatches: orders are permutations, and steps keep the types of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl_po.algorithms.minibatch import descend, random_orders
from jaxrl_po.algorithms.ppo import farthest_from_one
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


@pytest.mark.parametrize("num_blocks", [1, 2, 4])
def test_each_minibatch_takes_as_many_samples_from_each_block(num_blocks):
    """Of 24 samples, in 3 epochs of 3 minibatches: no sample twice in an epoch, none left out."""
    samples = jnp.arange(24.0)
    optimizer = optax.sgd(0.1)
    loss = lambda x, batch: (x * batch.sum(), {"seen": batch})  # noqa: E731
    _, _, metrics = descend(
        jax.random.key(3),
        loss,
        optimizer,
        jnp.zeros(()),
        optimizer.init(jnp.zeros(())),
        samples,
        num_epochs=3,
        num_minibatches=3,
        flat=False,
        num_blocks=num_blocks,
    )
    seen = np.asarray(metrics["seen"], int)
    np.testing.assert_array_equal(np.sort(seen.reshape(3, 24), axis=1), [np.arange(24)] * 3)
    counts = np.stack([np.bincount(m // (24 // num_blocks), minlength=num_blocks) for m in seen])
    np.testing.assert_array_equal(counts, 8 // num_blocks)
    assert not (seen[:3] == seen[3:6]).all()
    within = seen.reshape(9, num_blocks, -1) % (24 // num_blocks)
    if num_blocks > 1:  # each is in an order of its own
        assert (within[:, 0] != within[:, 1]).any()


def test_the_farthest_ratio_is_the_same_by_blocks():
    for ratio in np.exp(np.random.default_rng(0).normal(scale=0.3, size=(20, 8))):
        ratio = jnp.asarray(ratio)
        found = [float(farthest_from_one(ratio, m)) for m in (1, 2)]
        assert found == [ratio[np.abs(np.asarray(ratio) - 1).argmax()]] * 2
