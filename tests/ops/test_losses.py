import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxrl_po import ops
from jaxrl_po.distributions import Categorical
from tests.reference import losses as reference

B, EPS = 16, 0.2


def mean(loss, **options):
    """The loss of a batch: losses are each sample's."""
    return lambda *arguments: loss(*arguments, **options).mean()


def samples(seed, count=3):
    """Ratios around 1 first, then anything; nowhere near the kinks, so that gradients exist."""
    rng = np.random.default_rng(seed)
    ratio = rng.choice([0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 2.0], B) + rng.uniform(-0.05, 0.05, B)
    return [ratio, *rng.normal(size=(count - 1, B))]


LOSSES = {
    "policy_gradient": (mean(ops.policy_gradient_loss), reference.policy_gradient, 2),
    "surrogate": (mean(ops.surrogate_loss), reference.surrogate, 2),
    "clipped_surrogate": (
        mean(ops.clipped_surrogate_loss, clip_eps=EPS),
        functools.partial(reference.clipped_surrogate, eps=EPS),
        2,
    ),
    "value": (mean(ops.value_loss), reference.value, 2),
    "huber_value": (mean(ops.value_loss, kind="huber"), reference.huber_value, 2),
    "clipped_value": (
        mean(ops.clipped_value_loss, clip_eps=EPS),
        functools.partial(reference.clipped_value, eps=EPS),
        3,
    ),
    "clipped_huber_value": (
        mean(ops.clipped_value_loss, clip_eps=EPS, kind="huber"),
        functools.partial(reference.clipped_huber_value, eps=EPS),
        3,
    ),
    "explained_variance": (ops.explained_variance, reference.explained_variance, 2),
}
CASES = pytest.mark.parametrize(("loss", "expected", "count"), LOSSES.values(), ids=LOSSES)


@CASES
@given(seed=st.integers(0, 2**32))
def test_losses_are_their_definitions(loss, expected, count, seed):
    arguments = samples(seed, count)
    np.testing.assert_allclose(loss(*map(jnp.asarray, arguments)), expected(*arguments), rtol=1e-4)


def grid(*shape):
    return jnp.zeros(shape)


MIXED = {
    "a column": (lambda: ops.value_loss(grid(4), grid(4, 1)), r"value \[4\], target \[4, 1\]"),
    "surrogate": (lambda: ops.surrogate_loss(grid(4), grid(1)), r"ratio \[4\], advantage \[1\]"),
    "clipped": (
        lambda: ops.clipped_surrogate_loss(grid(4), grid(2, 4), 0.2),
        r"ratio \[4\], advantage \[2, 4\]",
    ),
    "clipped value": (
        lambda: ops.clipped_value_loss(grid(4), grid(), grid(4), 0.2),
        r"value \[4\], old_value \[\], target \[4\]",
    ),
    "policy gradient": (
        lambda: ops.policy_gradient_loss(grid(4, 1), grid(4)),
        r"log_prob \[4, 1\], advantage \[4\]",
    ),
    "ratio": (
        lambda: ops.importance_ratio(grid(4), grid(4), grid(1) == 0),
        r"log_prob \[4\], old_log_prob \[4\], mask \[1\]",
    ),
    "explained variance": (lambda: ops.explained_variance(grid(4), grid(2)), r"value \[4\], t"),
    "advantage": (lambda: ops.normalize_advantage(grid(4), grid(2) == 0), r"advantage \[4\], mask"),
    "KL": (
        lambda: ops.mean_kl(Categorical(grid(4, 2)), Categorical(grid(4, 2)), grid(4, 1) == 0),
        r"kl \[4\], mask \[4, 1\]",
    ),
    "GAE": (
        lambda: ops.gae(*[grid(3, 2)] * 2, grid(2), *[grid(3, 2) > 0] * 2, gamma=1, gae_lambda=1),
        r"reward \[3, 2\], value \[3, 2\], next_value \[2\]",
    ),
    "returns": (
        lambda: ops.discounted_returns(grid(3, 2), grid(3, 2) > 0, grid(), 1.0),
        r"a_step \[2\], start \[\]",
    ),
}


@pytest.mark.parametrize(("call", "message"), MIXED.values(), ids=MIXED)
def test_shapes_that_would_mix_samples_are_refused(call, message):
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=message):
        call()


@CASES
def test_losses_have_the_right_gradients(loss, expected, count):
    with jax.enable_x64(True):
        on_device = lambda *arguments: loss(*map(jnp.asarray, arguments))  # noqa: E731
        check_grads(on_device, samples(3, count), order=1, modes=["rev"])


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.3, 1.0, 0.0),  # gained enough
        (0.7, -1.0, 0.0),
        (1.3, -1.0, 1.0),  # lost by it: the way back stays open
        (0.7, 1.0, -1.0),
        (1.1, 1.0, -1.0),  # within the bounds
        (0.9, -1.0, 1.0),
    ],
)
def test_no_gradient_where_ppo_clips(ratio, advantage, gradient):
    loss = jax.grad(lambda r: ops.clipped_surrogate_loss(r, jnp.array([advantage]), EPS).sum())
    np.testing.assert_allclose(loss(jnp.array([ratio])), [gradient], rtol=1e-6)


def test_value_clip_stops_the_gradient_once_the_value_moved_far_enough():
    slope = jax.grad(lambda v: ops.clipped_value_loss(v, jnp.zeros(1), jnp.full(1, 5.0), EPS).sum())
    np.testing.assert_allclose(slope(jnp.array([0.3])), [0.0])
    np.testing.assert_allclose(slope(jnp.array([0.1])), [-4.9], rtol=1e-6)
    np.testing.assert_allclose(slope(jnp.array([-0.3])), [-5.3], rtol=1e-6)


@given(seed=st.integers(0, 2**32), shift=st.floats(-100, 100), scale=st.floats(0.1, 100))
def test_normalised_advantages_have_no_mean_and_unit_spread(seed, shift, scale):
    advantage = scale * np.random.default_rng(seed).normal(size=(8, 4)) + shift
    normalised = ops.normalize_advantage(jnp.asarray(advantage, jnp.float32))
    np.testing.assert_allclose(normalised.mean(), 0, atol=1e-3)
    np.testing.assert_allclose(normalised.std(), 1, rtol=1e-3)


def test_equal_advantages_normalise_to_zero():
    np.testing.assert_array_equal(ops.normalize_advantage(jnp.full(4, 3.0)), 0)


def test_means_count_what_the_mask_leaves_and_hold_back_gradients():
    terms = {"a": jnp.array([1.0, 2.0, jnp.nan]), "b": jnp.array([4.0, 0.0, 7.0])}
    mask = jnp.array([True, True, False])
    found = ops.means(terms, mask)
    assert {name: float(x) for name, x in found.items()} == {"a": 1.5, "b": 2.0}
    assert float(ops.means({"b": terms["b"]})["b"]) == pytest.approx(11 / 3)
    nothing = ops.means(terms, jnp.zeros(3, bool))
    assert {name: float(x) for name, x in nothing.items()} == {"a": 0.0, "b": 0.0}
    slope = jax.grad(lambda x: ops.means({"x": x})["x"])(jnp.ones(3))
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("log_ratio", [50.0, 88.0, 90.0, 1e4])
def test_a_ratio_beyond_all_bounds_has_the_gradient_of_its_branch(log_ratio):
    def loss(log_prob, advantage):
        ratio = ops.importance_ratio(log_prob, jnp.zeros(1))
        return ops.clipped_surrogate_loss(ratio, jnp.array([advantage]), EPS).sum()

    value, slope = jax.value_and_grad(loss)(jnp.array([log_ratio]), 1.0)
    np.testing.assert_allclose(value, -1.2, rtol=1e-6)  # gained enough
    np.testing.assert_array_equal(slope, 0)
    value, slope = jax.value_and_grad(loss)(jnp.array([log_ratio]), -1.0)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert slope[0] > 1e18  # lost by it: the way back stays open


def test_ratios_within_the_bounds_are_exact():
    log_ratio = jnp.linspace(-80.0, 44.0, 1000)
    np.testing.assert_array_equal(
        ops.importance_ratio(log_ratio, 0.0 * log_ratio), jnp.exp(log_ratio)
    )


def test_the_variance_of_equal_targets_is_explained_by_nothing():
    value, target = jnp.arange(4.0), jnp.full(4, 2.0)
    assert np.isnan(ops.explained_variance(value, target))
    assert np.isnan(ops.explained_variance(target, target))
    with jax.debug_nans(True):
        assert ops.explained_variance(value, target) == 1.0
