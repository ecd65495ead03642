import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl_po import ops
from tests.reference import advantages as reference

update = jax.jit(ops.update_statistics)


def statistics_of(*batches):
    statistics = ops.init_statistics(batches[0].shape[2:], jnp.float32)
    for batch in batches:
        statistics = update(statistics, batch)
    return statistics


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_any_split_of_the_samples_gives_numpys_mean_and_variance(seed, sizes):
    samples = np.random.default_rng(seed).normal(3, 2, (sum(sizes), 2, 3)).astype(np.float32)
    statistics = statistics_of(*np.split(samples, np.cumsum(sizes)[:-1]))
    flat = samples.reshape(-1, 3)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics.variance, flat.var(0), rtol=1e-4, atol=1e-6)
    assert statistics.num_samples == len(flat)


def test_many_small_batches_far_from_zero_keep_their_variance():
    samples = np.random.default_rng(0).normal(1000, 1, (300, 4, 1)).astype(np.float32)
    statistics = statistics_of(*np.split(samples, 100))
    np.testing.assert_allclose(statistics.mean, samples.mean(), rtol=1e-5)
    np.testing.assert_allclose(statistics.variance, samples.var(), rtol=0.02)


def test_normalise_is_shift_scale_and_clip():
    samples = np.random.default_rng(1).normal(3, 2, (50, 2, 3)).astype(np.float32)
    statistics = statistics_of(samples)
    normalised = ops.normalize(statistics, samples)
    np.testing.assert_allclose(normalised.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std((0, 1)), 1, rtol=1e-4)
    np.testing.assert_array_equal(ops.normalize(statistics, jnp.full(3, 1e6)), 10)


def test_statistics_of_nothing_change_nothing():
    samples = jnp.array([[1.0, -2.0]])
    start = ops.init_statistics((2,), jnp.float32)
    np.testing.assert_allclose(ops.normalize(start, samples), samples, rtol=1e-6)


def test_scaled_rewards_keep_their_sign():
    statistics = ops.RunningStatistics(jnp.array(100.0), jnp.array(4.0), jnp.array(1.0))
    scaled = ops.scale_rewards(statistics, jnp.array([-4.0, 0.0, 2.0, 1e6]))
    np.testing.assert_allclose(scaled, [-2, 0, 1, 10], rtol=1e-6)


@given(seed=st.integers(0, 2**32), gamma=st.floats(0, 1))
def test_discounted_returns_are_their_definition(seed, gamma):
    rng = np.random.default_rng(seed)
    reward, start = rng.normal(size=(10, 2)), rng.normal(size=2)
    done = rng.random((10, 2)) < 0.2
    arrays = (jnp.asarray(x, jnp.float32) for x in (reward, start))
    reward32, start32 = arrays
    returns, last = ops.discounted_returns(reward32, jnp.asarray(done), start32, gamma)
    expected = reference.discounted_returns(reward, done, start, gamma)
    np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(last, np.where(done[-1], 0, expected[-1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("done", [False, True])
def test_the_last_reward_of_an_episode_counts_before_the_reset(done):
    reward, ended = jnp.array([[5.0], [7.0]]), jnp.array([[done], [False]])
    returns, _ = ops.discounted_returns(reward, ended, jnp.array([10.0]), 0.5)
    np.testing.assert_allclose(returns[:, 0], [10.0, 7.0 if done else 12.0])
