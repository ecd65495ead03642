"""Policy and value losses of each sample [B]; a loss is their mean over the samples that count.

Arrays that belong together have one shape, or a ValueError says which do not. Without a mask every
slot counts. With one, what stands in a slot it leaves out has no influence:
token sequences of unequal length share a batch that way.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.ops.shapes import check_one_shape
from jaxrl_po.types import Array


def normalize_advantage(advantage: Array, mask: Array | None = None) -> Array:
    """Advantages shifted to mean 0 and scaled to standard deviation 1, over all that count.

    Examples:
        >>> normalize_advantage(jnp.array([1.0, 3.0]))
        Array([-1.,  1.], dtype=float32)
    """
    check_one_shape(advantage=advantage, mask=mask)
    return (advantage - advantage.mean(where=mask)) / (advantage.std(where=mask) + 1e-8)


def importance_ratio(log_prob: Array, old_log_prob: Array, mask: Array | None = None) -> Array:
    """r = π(a|s) / π_old(a|s), and 1 in slots left out: chosen before `exp`, whose ∞·0 is NaN.

    A ratio whose square would overflow (e^44 in float32) is held there, so that a loss that
    clips it has gradient 0 and not ∞·0; to the other losses it keeps its slope.

    Examples:
        >>> importance_ratio(jnp.log(jnp.array([0.4])), jnp.log(jnp.array([0.2]))).round(4)
        Array([2.], dtype=float32)
    """
    check_one_shape(log_prob=log_prob, old_log_prob=old_log_prob, mask=mask)
    log_ratio = log_prob - old_log_prob
    if mask is not None:
        log_ratio = jnp.where(mask, log_ratio, 0.0)
    highest = 0.5 * np.log(float(jnp.finfo(log_ratio.dtype).max))
    excess = jax.lax.stop_gradient(jnp.maximum(log_ratio - highest, 0.0))
    return jnp.exp(log_ratio - excess)


def means(terms: dict[str, Array], mask: Array | None = None) -> dict[str, Array]:
    """The mean of each quantity [B] over all that count, as one reduction; no gradient flows.

    Where none counts it is 0.
    """
    stacked = jax.lax.stop_gradient(jnp.stack(list(terms.values())))
    axes = tuple(range(1, stacked.ndim))
    if mask is None:
        averages = stacked.mean(axes)
    else:
        averages = stacked.sum(axes, where=mask) / jnp.maximum(mask.sum(), 1)
    return dict(zip(terms, averages, strict=True))


def policy_gradient_loss(log_prob: Array, advantage: Array) -> Array:
    """The score-function loss -log π(a|s) Â (Williams 1992; Sutton et al. 2000, thm. 1).

    Examples:
        >>> policy_gradient_loss(log_prob=jnp.array([-0.5]), advantage=jnp.array([2.0]))
        Array([1.], dtype=float32)
    """
    check_one_shape(log_prob=log_prob, advantage=advantage)
    return -log_prob * advantage


def surrogate_loss(ratio: Array, advantage: Array) -> Array:
    """The importance-weighted surrogate -r Â (Schulman et al. 2015, arXiv:1502.05477, eq. 14).

    `ratio` is r = π(a|s) / π_old(a|s).

    Examples:
        >>> surrogate_loss(ratio=jnp.array([1.5]), advantage=jnp.array([2.0]))
        Array([-3.], dtype=float32)
    """
    check_one_shape(ratio=ratio, advantage=advantage)
    return -ratio * advantage


def clipped_surrogate_loss(
    ratio: Array,
    advantage: Array,
    clip_eps: float | Array,
    clip_eps_high: float | Array | None = None,
) -> Array:
    """The clipped surrogate -min(r Â, clip(r, 1-ε, 1+ε) Â) (arXiv:1707.06347, eq. 7).

    With `clip_eps_high` that is the ε above 1 (DAPO, arXiv:2503.14476, sec. 3.1).

    Examples:
        >>> clipped_surrogate_loss(jnp.array([1.5, 0.5]), jnp.array([1.0, 1.0]), clip_eps=0.2)
        Array([-1.2, -0.5], dtype=float32)
    """
    check_one_shape(ratio=ratio, advantage=advantage)
    high = clip_eps if clip_eps_high is None else clip_eps_high
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + high)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def value_loss(value: Array, target: Array, kind: str = "mse") -> Array:
    """ℓ(V(s) - target), "mse": ℓ(e) = ½ e²; "huber" (Huber 1964): |e| - ½ where |e| > 1.

    Examples:
        >>> value, target = jnp.array([3.0]), jnp.array([0.0])
        >>> value_loss(value, target), value_loss(value, target, "huber")
        (Array([4.5], dtype=float32), Array([2.5], dtype=float32))
    """
    check_one_shape(value=value, target=target)
    return _error(value - target, kind)


def clipped_value_loss(
    value: Array, old_value: Array, target: Array, clip_eps: float | Array, kind: str = "mse"
) -> Array:
    """The larger of the errors of V and of V held within ε of V_old (as in OpenAI Baselines PPO).

    max(ℓ(V - target), ℓ(V_old + clip(V - V_old, -ε, ε) - target)), ℓ as in `value_loss`
    """
    check_one_shape(value=value, old_value=old_value, target=target)
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return jnp.maximum(_error(value - target, kind), _error(clipped - target, kind))


def _error(e: Array, kind: str) -> Array:
    squared = 0.5 * jnp.square(e)
    if kind == "mse":
        return squared
    size = jnp.abs(e)
    return jnp.where(size <= 1, squared, size - 0.5)


def explained_variance(value: Array, target: Array) -> Array:
    """1 - Var[target - V] / Var[target]: 1 is a perfect critic, 0 no better than a constant.

    NaN where all targets are equal: there is no variance to explain.

    Examples:
        >>> explained_variance(value=jnp.array([0.0, 1.0]), target=jnp.array([0.0, 2.0]))
        Array(0.75, dtype=float32)
    """
    check_one_shape(value=value, target=target)
    return 1.0 - ratio_or_nan(jnp.var(target - value), jnp.var(target))


def ratio_or_nan(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, and NaN for a denominator of 0, by which nothing is divided.

    Under `jax_debug_nans`, which stops a program at a NaN that is meant too, 0 takes its place.
    """
    undefined = denominator == 0
    meant = 0.0 if jax.config.jax_debug_nans else jnp.nan  # type: ignore[attr-defined]
    return jnp.where(undefined, meant, numerator / jnp.where(undefined, 1, denominator))
