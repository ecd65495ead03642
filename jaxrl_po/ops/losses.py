"""Policy and value losses: means over the batch [B], or over the slots of it that a mask leaves.

Without a mask every slot counts. With one, what stands in a slot it leaves out has no influence:
token sequences of unequal length share a batch that way.
"""

import jax.numpy as jnp

from jaxrl_po.types import Array


def normalize_advantage(advantage: Array, mask: Array | None = None) -> Array:
    """Advantages shifted to mean 0 and scaled to standard deviation 1, over all that count."""
    return (advantage - advantage.mean(where=mask)) / (advantage.std(where=mask) + 1e-8)


def importance_ratio(log_prob: Array, old_log_prob: Array, mask: Array | None = None) -> Array:
    """r = π(a|s) / π_old(a|s), and 1 in slots left out: chosen before `exp`, whose ∞·0 is NaN."""
    log_ratio = log_prob - old_log_prob
    return jnp.exp(log_ratio if mask is None else jnp.where(mask, log_ratio, 0.0))


def policy_gradient_loss(log_prob: Array, advantage: Array, mask: Array | None = None) -> Array:
    """The score-function loss -E[log π(a|s) Â] (Williams 1992; Sutton et al. 2000, thm. 1)."""
    return -(log_prob * advantage).mean(where=mask)


def surrogate_loss(ratio: Array, advantage: Array, mask: Array | None = None) -> Array:
    """The importance-weighted surrogate -E[r Â] (Schulman et al. 2015, arXiv:1502.05477, eq. 14).

    `ratio` is r = π(a|s) / π_old(a|s).
    """
    return -(ratio * advantage).mean(where=mask)


def clipped_surrogate_loss(
    ratio: Array, advantage: Array, clip_eps: float | Array, mask: Array | None = None
) -> Array:
    """The clipped surrogate -E[min(r Â, clip(r, 1-ε, 1+ε) Â)] (arXiv:1707.06347, eq. 7)."""
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean(where=mask)


def value_loss(value: Array, target: Array, mask: Array | None = None) -> Array:
    """Half the mean squared error ½ E[(V(s) - target)²]."""
    return 0.5 * jnp.square(value - target).mean(where=mask)


def clipped_value_loss(
    value: Array,
    old_value: Array,
    target: Array,
    clip_eps: float | Array,
    mask: Array | None = None,
) -> Array:
    """The larger of the errors of V and of V held within ε of V_old (as in OpenAI Baselines PPO).

    ½ E[max((V - target)², (V_old + clip(V - V_old, -ε, ε) - target)²)]
    """
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    worst = jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))
    return 0.5 * worst.mean(where=mask)


def explained_variance(value: Array, target: Array) -> Array:
    """1 - Var[target - V] / Var[target]: 1 is a perfect critic, 0 no better than a constant."""
    return 1.0 - jnp.var(target - value) / jnp.var(target)
