"""Orders of minibatches: permutations, all samples equally likely in all places."""

import jax
import numpy as np
import pytest

from jaxrl_po.algorithms.minibatch import random_orders


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
