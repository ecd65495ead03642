"""Running statistics, and the two normalisations built on them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.ops.shapes import check_one_shape
from jaxrl_po.types import Array

EPSILON = 1e-8
CLIP = 10.0  # bound on whatever is normalised, in standard deviations


class RunningStatistics(NamedTuple):
    """Mean and variance of all samples seen so far; of shape [...], that of one sample."""

    mean: Array  # [...]
    variance: Array  # [...]
    num_samples: Array  # [] seen so far


def init_statistics(shape: tuple[int, ...], dtype: jnp.dtype) -> RunningStatistics:
    """Statistics of no samples: mean 0, variance 1, so that normalising only bounds by `CLIP`."""
    return RunningStatistics(jnp.zeros(shape, dtype), jnp.ones(shape, dtype), jnp.zeros((), dtype))


def update_statistics(
    statistics: RunningStatistics, samples: Array, mask: Array | None = None
) -> RunningStatistics:
    """Merge a batch of samples [..., *shape] into the statistics.

    Of scalars a mask [...] may say which count; one must.

    The pairwise form of Welford's update (Chan, Golub & LeVeque 1979): with n and m samples and
    the difference d of their means,
        mean = mean_n + d m / (n + m)
        (n + m) variance = n variance_n + m variance_m + d² n m / (n + m)

    Examples:
        >>> seen = update_statistics(init_statistics((), jnp.float32), jnp.array([1.0, 3.0]))
        >>> float(seen.mean), float(seen.variance), float(seen.num_samples)
        (2.0, 1.0, 2.0)
    """
    mean, variance, num_samples = statistics
    axes = tuple(range(samples.ndim - mean.ndim))
    count = samples.size // mean.size if mask is None else mask.sum()
    batch_count = jnp.asarray(count, num_samples.dtype)
    total = num_samples + batch_count
    weight = batch_count / total
    difference = samples.mean(axes, where=mask) - mean
    return RunningStatistics(
        mean=mean + difference * weight,
        variance=(1 - weight) * variance
        + weight * samples.var(axes, where=mask)
        + jnp.square(difference) * weight * (1 - weight),
        num_samples=total,
    )


def normalize(statistics: RunningStatistics, samples: Array) -> Array:
    """(x - mean) / std of samples [..., *shape], clipped to ±10.

    Examples:
        >>> seen = RunningStatistics(jnp.array(2.0), jnp.array(4.0), jnp.array(10.0))
        >>> normalize(seen, jnp.array([4.0, 100.0]))
        Array([ 1., 10.], dtype=float32)
    """
    mean = jnp.broadcast_to(statistics.mean, samples.shape)
    scale = jnp.broadcast_to(jax.lax.rsqrt(statistics.variance + EPSILON), samples.shape)
    return jnp.clip((samples - mean) * scale, -CLIP, CLIP)


def scale_rewards(statistics: RunningStatistics, reward: Array) -> Array:
    """r / std of the discounted returns, clipped to ±10; the mean stays, so signs do too."""
    return jnp.clip(reward * jax.lax.rsqrt(statistics.variance + EPSILON), -CLIP, CLIP)


def discounted_returns(
    reward: Array, done: Array, start: Array, gamma: float | Array
) -> tuple[Array, Array]:
    """Running discounted sums R_t = γ R_{t-1} + r_t, set to 0 only after the last reward counted.

    Args:
        reward: r [T, N].
        done: whether the episode ended with that reward [T, N].
        start: R before the first step [N].
        gamma: discount γ.

    Returns:
        R_t [T, N], and the sum to go on from [N].

    Raises:
        ValueError: when rewards and flags, or a step's rewards and the sums, are not of one shape.

    Examples:
        >>> returns, last = discounted_returns(
        ...     jnp.ones((3, 1)), jnp.array([[False], [True], [False]]), jnp.zeros(1), gamma=0.5
        ... )
        >>> returns.ravel(), last
        (Array([1. , 1.5, 1. ], dtype=float32), Array([1.], dtype=float32))
    """
    check_one_shape(reward=reward, done=done)
    check_one_shape(a_step=reward[0], start=start)

    def forward(running: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        reward_t, done_t = inputs
        total = gamma * running + reward_t
        return jnp.where(done_t, 0.0, total), total

    last, returns = jax.lax.scan(forward, start, (reward, done))
    return returns, last
