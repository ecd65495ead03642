"""Learning curves and their aggregates: the IQM and its bootstrap (arXiv:2108.13264)."""

from collections.abc import Sequence

import numpy as np

from jaxrl_po.config import Range

CONFIDENCE = Range(0.0, 1.0, open_low=True)


def latest_mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean over the latest episodes that finished by each point of a curve [C]; NaN before any.

    Args:
        total: sum over the episodes that finished since the point before [C].
        count: how many they are [C].
    """
    latest = np.maximum.accumulate(np.where(count > 0, np.arange(len(count)), -1))
    return np.where(latest >= 0, (total / np.maximum(count, 1))[latest], np.nan)


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half, robust to single lucky or failed runs."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(
    strata: Sequence[np.ndarray],
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Stratified bootstrap interval of the IQM over all runs of all strata.

    Runs are resampled with replacement within their stratum (a task, or a setting), never across:
    so the interval shows the noise of seeds, not the spread between strata.

    Args:
        strata: values of each stratum's runs [..., S_i], with the same leading axes.
        confidence: of the two-sided percentile interval.
        num_resamples: bootstrap samples.
        seed: of the resampling; the same input gives the same interval.

    Returns:
        Low and high ends [...]. Strata of one run each have no spread: both ends are their IQM.
    """
    from scipy.stats import bootstrap

    if confidence not in CONFIDENCE or confidence == 1.0:
        raise ValueError(f"confidence={confidence} is out of range: it must be > 0 and < 1")
    if all(stratum.shape[-1] == 1 for stratum in strata):
        value = iqm(np.concatenate(strata, axis=-1))
        return value, value
    if any(stratum.shape[-1] == 1 for stratum in strata):
        raise ValueError("strata: every stratum needs at least 2 runs, or every stratum 1")

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        return iqm(np.concatenate(samples, axis=axis), axis=axis)

    interval = bootstrap(
        tuple(strata),
        statistic,
        axis=-1,
        confidence_level=confidence,
        n_resamples=num_resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return np.asarray(interval.low), np.asarray(interval.high)
