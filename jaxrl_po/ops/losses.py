"""Policy and value losses. All arguments are [B]; every loss is a mean over the batch."""

import jax.numpy as jnp

from jaxrl_po.types import Array


def normalize_advantage(advantage: Array) -> Array:
    """Advantages shifted to mean 0 and scaled to standard deviation 1, over all entries."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def policy_gradient_loss(log_prob: Array, advantage: Array) -> Array:
    """The score-function loss -E[log π(a|s) Â] (Williams 1992; Sutton et al. 2000, thm. 1)."""
    return -(log_prob * advantage).mean()


def surrogate_loss(ratio: Array, advantage: Array) -> Array:
    """The importance-weighted surrogate -E[r Â] (Schulman et al. 2015, arXiv:1502.05477, eq. 14).

    `ratio` is r = π(a|s) / π_old(a|s).
    """
    return -(ratio * advantage).mean()


def clipped_surrogate_loss(ratio: Array, advantage: Array, clip_eps: float | Array) -> Array:
    """The clipped surrogate -E[min(r Â, clip(r, 1-ε, 1+ε) Â)] (arXiv:1707.06347, eq. 7)."""
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean()


def value_loss(value: Array, target: Array) -> Array:
    """Half the mean squared error ½ E[(V(s) - target)²]."""
    return 0.5 * jnp.square(value - target).mean()


def clipped_value_loss(
    value: Array, old_value: Array, target: Array, clip_eps: float | Array
) -> Array:
    """The larger of the errors of V and of V held within ε of V_old (as in OpenAI Baselines PPO).

    ½ E[max((V - target)², (V_old + clip(V - V_old, -ε, ε) - target)²)]
    """
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(clipped - target)).mean()


def explained_variance(value: Array, target: Array) -> Array:
    """1 - Var[target - V] / Var[target]: 1 is a perfect critic, 0 no better than a constant."""
    return 1.0 - jnp.var(target - value) / jnp.var(target)
