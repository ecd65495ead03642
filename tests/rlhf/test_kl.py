"""KL estimators against the definition, and the controller against the published formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf.kl import ESTIMATORS, adapt_kl_coef_per_sequence


def two_policies():
    logits = jax.random.normal(jax.random.key(0), (2, 5))
    return Categorical(logits[0]), Categorical(logits[1])


def each_log_prob(distribution):
    return jax.vmap(distribution.log_prob)(jnp.arange(5))


def test_k1_and_k3_average_to_the_kl():
    policy, reference = two_policies()
    d = each_log_prob(policy) - each_log_prob(reference)
    p = jnp.exp(each_log_prob(policy))
    for name in ("k1", "k3"):
        np.testing.assert_allclose(p @ ESTIMATORS[name](d), policy.kl(reference), rtol=1e-5)
    assert (ESTIMATORS["k3"](d) >= 0).all()


def test_differentiating_k2_gives_the_gradient_of_the_kl_and_k1_and_k3_do_not():
    policy, reference = two_policies()
    p = jnp.exp(each_log_prob(policy))

    def loss(name):
        def estimate(logits):
            log_ratio = each_log_prob(Categorical(logits)) - each_log_prob(reference)
            return p @ ESTIMATORS[name](log_ratio)

        return jax.grad(estimate)(policy.logits)

    exact = jax.grad(lambda logits: Categorical(logits).kl(reference))(policy.logits)
    np.testing.assert_allclose(loss("k2"), exact, atol=1e-6)
    for wrong in ("k1", "k3"):
        assert jnp.abs(loss(wrong) - exact).max() > 0.05


def test_as_a_reward_k1_has_the_gradient_of_the_kl_and_k3_does_not():
    policy, reference = two_policies()
    d = each_log_prob(policy) - each_log_prob(reference)
    p = jnp.exp(each_log_prob(policy))

    def score_function_gradient(name):
        price = ESTIMATORS[name](d)
        return p * (price - p @ price)  # Σ_a p(a) price(a) ∇ log p(a) in the logits

    exact = jax.grad(lambda logits: Categorical(logits).kl(reference))(policy.logits)
    np.testing.assert_allclose(score_function_gradient("k1"), exact, atol=1e-6)
    assert jnp.abs(score_function_gradient("k3") - exact).max() > 0.05


def test_the_controller_is_the_published_formula_over_a_hundred_steps():
    target, horizon, batch = 6.0, 10_000, 64
    measured = np.abs(np.random.default_rng(0).normal(6.0, 4.0, 100))
    coef, expected = jnp.asarray(0.2), 0.2
    for kl in measured:
        coef = adapt_kl_coef_per_sequence(
            coef,
            jnp.asarray(kl, jnp.float32),
            target_kl_per_sequence=target,
            num_sequences=batch,
            kl_horizon_sequences=horizon,
        )
        error = min(max(kl / target - 1, -0.2), 0.2)
        expected *= 1 + error * batch / horizon
        np.testing.assert_allclose(coef, expected, rtol=1e-5)


@pytest.mark.parametrize("horizon", [1e-6, 1.0, 64.0])
@pytest.mark.parametrize("kl", [0.0, 1e6, -5.0, np.inf, np.nan])
def test_the_price_stays_a_price(horizon, kl):
    """However short the horizon, whatever was measured, for as long as it goes on."""
    coef = jnp.asarray(0.2)
    for _ in range(300):
        before = coef
        coef = adapt_kl_coef_per_sequence(
            coef,
            jnp.asarray(kl, jnp.float32),
            target_kl_per_sequence=6.0,
            num_sequences=64,
            kl_horizon_sequences=horizon,
        )
        assert 0.5 * before <= coef <= 2 * before
    assert 0 < coef < np.inf
    assert (coef > 0.2) == (kl > 6.0)
    assert (coef == 0.2) == np.isnan(kl)
