"""The price of leaving the reference policy: KL estimators, and the adaptive coefficient."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxrl_po.algorithms.ppo import KL_COEF_BOUNDS
from jaxrl_po.types import Array

MAX_ERROR = 0.2  # bound on the controller's relative error
FACTOR_BOUNDS = 0.5, 2.0  # of one change of the price, whatever the horizon

# From d = log π(a) - log π_ref(a) of a sampled token. k1 is what goes into the reward: its
# score-function gradient is that of the KL. k2 is what may be differentiated in a loss. k3 is the
# quietest to look at, and right in neither place (Schulman 2020, "Approximating KL divergence").
ESTIMATORS: dict[str, Callable[[Array], Array]] = {
    "k1": lambda d: d,
    "k2": lambda d: 0.5 * jnp.square(d),
    "k3": lambda d: jnp.exp(-d) - 1.0 + d,
}


def adapt_kl_coef_per_sequence(
    kl_coef: Array,
    kl_per_sequence: Array,
    *,
    target_kl_per_sequence: float | Array,
    num_sequences: int,
    kl_horizon_sequences: float | Array,
) -> Array:
    """The proportional controller of Ziegler et al. 2019 (arXiv:1909.08593, sec. 2.2).

        e = clip((KL - target) / target, -0.2, 0.2)
        β' = β (1 + e · sequences / horizon)

    The factor is held within `FACTOR_BOUNDS`, or a horizon shorter than a fifth of the batch would
    make the price negative; no change takes the price beyond `KL_COEF_BOUNDS`. A KL that is not a
    number leaves β as it is.

    Args:
        kl_coef: β.
        kl_per_sequence: mean over sequences of Σ_t log π/π_ref, in nats.
        target_kl_per_sequence: nats.
        num_sequences: that the KL was measured on.
        kl_horizon_sequences: sequences over which an error of 1 would double β.
    """
    error = kl_per_sequence / target_kl_per_sequence - 1.0
    error = jnp.where(jnp.isnan(error), 0.0, jnp.clip(error, -MAX_ERROR, MAX_ERROR))
    factor = jnp.clip(1.0 + error * num_sequences / kl_horizon_sequences, *FACTOR_BOUNDS)
    low, high = KL_COEF_BOUNDS
    return jnp.clip(kl_coef * factor, jnp.minimum(kl_coef, low), jnp.maximum(kl_coef, high))
