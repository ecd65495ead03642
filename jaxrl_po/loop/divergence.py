"""What it means that training diverged, for runs and sweeps alike."""

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array, PyTree, TrainState

# Metrics that must be finite, of those that an update has: without a critic there is no value loss.
WATCHED = ("policy_loss", "value_loss", "grad_norm")
LARGEST_PARAMETER = 1e3  # networks with inputs and outputs of order 1 stay far below


def is_finite(metrics: dict[str, Array], state: TrainState) -> Array:
    """Whether an iteration's losses and gradient, and the state that it left, are finite."""
    watched = [metrics[name] for name in WATCHED if name in metrics]
    return all_finite((watched, state.params, state.algorithm, state.normalizer))


def is_excessive(params: PyTree) -> Array:
    """Whether a parameter is beyond ±1000: learning seldom comes back from there."""
    magnitudes = [jnp.abs(leaf).max() for leaf in jax.tree.leaves(params)]
    return (jnp.stack(magnitudes) > LARGEST_PARAMETER).any()


def has_diverged(metrics: dict[str, Array], state: TrainState) -> Array:
    """Either: a loss, gradient or parameter is not finite, or a parameter is beyond ±1000."""
    return ~is_finite(metrics, state) | is_excessive(state.params)


def all_finite(tree: PyTree) -> Array:
    """Whether no real number in a pytree is infinite or NaN."""
    leaves = [x for x in map(jnp.asarray, jax.tree.leaves(tree)) if _is_real(x)]
    if not leaves:
        return jnp.array(True)
    # 0 · x is NaN exactly where x is not finite, and a sum keeps a NaN.
    return ~jnp.isnan(jnp.stack([(0.0 * x).sum() for x in leaves])).any()


def _is_real(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)
