"""Advantage estimation."""

import jax
import jax.numpy as jnp

from jaxrl_po.ops.shapes import check_one_shape
from jaxrl_po.types import Array


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    *,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> Array:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

        δ_t = r_{t+1} + γ (1 - terminated_t) V(s_{t+1}) - V(s_t)
        Â_t = δ_t + γ λ (1 - terminated_t) (1 - truncated_t) Â_{t+1}

    An episode that ended has no value left; one that a time limit cut off has, and keeps its
    bootstrap. Both end the trace: what follows belongs to another episode.

    Args:
        reward: r_{t+1} [T, N].
        value: V(s_t) [T, N].
        next_value: V(s_{t+1}) [T, N] of the true next state, before any reset.
        terminated: whether the episode ended in s_{t+1} [T, N].
        truncated: whether a time limit cut it off in s_{t+1} [T, N].
        gamma: discount γ.
        gae_lambda: trace decay λ.

    Returns:
        The advantages Â_t [T, N]; Â_t + V(s_t) are the λ-returns.

    Raises:
        ValueError: when the arrays are not of one shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> reward, value = jnp.ones((2, 1)), jnp.zeros((2, 1))
        >>> terminated, truncated = jnp.array([[False], [True]]), jnp.zeros((2, 1), bool)
        >>> gae(reward, value, value, terminated, truncated, gamma=0.5, gae_lambda=1.0).ravel()
        Array([1.5, 1. ], dtype=float32)
    """
    check_one_shape(
        reward=reward,
        value=value,
        next_value=next_value,
        terminated=terminated,
        truncated=truncated,
    )
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda).astype(delta.dtype)

    def backward(advantage: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_t, decay_t = inputs
        advantage = delta_t + decay_t * advantage
        return advantage, advantage

    start = jnp.zeros_like(delta[0])
    return jax.lax.scan(backward, start, (delta, decay), reverse=True)[1]
