"""Scores as an update takes them: divided by their running deviation, and clipped."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.ops import init_statistics, update_statistics
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.estimators import usable_std
from jaxrl_po.types import Array, PyTree


def init_score_statistics(config: RLHFConfig) -> PyTree:
    """Statistics of no scores; () for a run that does not scale them."""
    return init_statistics((), jnp.zeros(()).dtype) if config.scale_scores else ()


def shape_scores(config: RLHFConfig, statistics: PyTree, score: Array) -> tuple[Array, PyTree]:
    """min(max(r / σ, -c), c), with σ the deviation of all scores up to and including these.

    The mean stays, so signs do too. Scores that are not finite stay as they are, and out of σ.

    Args:
        config: the run.
        statistics: of the scores so far.
        score: r [N].

    Returns:
        Scores [N], and the statistics with these.
    """
    finite = jnp.isfinite(score)
    if config.scale_scores:
        new = update_statistics(statistics, score, mask=finite)
        statistics = jax.tree.map(lambda n, o: jnp.where(finite.any(), n, o), new, statistics)
        largest = jnp.abs(score).max(where=finite, initial=0.0)
        score = score / usable_std(jnp.sqrt(statistics.variance), largest)
    if _is_bound(config.score_clip):
        clipped = jnp.clip(score, -config.score_clip, config.score_clip)
        score = jnp.where(finite, clipped, score)
    return score, statistics


def _is_bound(score_clip: float | Array) -> bool:
    return isinstance(score_clip, jax.core.Tracer) or bool(np.any(score_clip != np.inf))
