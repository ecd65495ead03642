"""Scores of few runs over several tasks, as Agarwal et al. (2021, arXiv:2108.13264) report them.

Scores are normalised within a task, and come as one array [S_k] of runs for each of K tasks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxrl_po.host.sweeps.statistics import iqm

Scores = Sequence[np.ndarray]
RESAMPLES = 2000


class Interval(NamedTuple):
    """An estimate [...], and the ends of its 95% bootstrap interval."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def normalized(returns: np.ndarray, zero: float, one: float) -> np.ndarray:
    """Scores of which `zero` is 0 and `one` is 1."""
    scores: np.ndarray = (np.asarray(returns, float) - zero) / (one - zero)
    return scores


def mean_iqm(scores: Scores) -> np.ndarray:
    """IQM of all runs of all tasks together (section 4.3); leading axes are kept."""
    return iqm(np.concatenate(scores, axis=-1))


def profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs above each threshold τ, mean over tasks (eq. 2): [..., thresholds]."""
    shares = [(task[..., None] > thresholds).mean(axis=-2) for task in scores]
    mean: np.ndarray = np.mean(shares, axis=0)
    return mean


def improvement(first: Scores, second: Scores) -> np.ndarray:
    """P(X > Y), a run of the first against one of the second; ties count half (eq. 3) [...]."""
    chances = []
    for x, y in zip(first, second, strict=True):
        x, y = x[..., :, None], y[..., None, :]
        chances.append(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))
    mean: np.ndarray = np.mean(chances, axis=0)
    return mean


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *methods: Scores,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A statistic of one or more methods' scores, and its percentile interval (section 4.1).

    Stratified: runs are drawn with replacement within each task of each method, so that only the
    noise of runs counts. Of few runs it covers less than it says: of 3, hardly more than half.

    Args:
        statistic: scores of each method, with leading axes -> [..., any].
        methods: scores.
        resamples: how often all runs are drawn anew.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)

    def drawn(runs: np.ndarray) -> np.ndarray:
        return runs[rng.integers(len(runs), size=(resamples, len(runs)))]

    draws = statistic(*[[drawn(runs) for runs in scores] for scores in methods])
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return Interval(statistic(*methods), low, high)
