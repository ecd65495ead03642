"""Learning curves and their aggregates: the IQM (arXiv:2108.13264) and its interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrl_po.config import Range

CONFIDENCE = Range(0.0, 1.0, open_low=True)
TRIMMED = 0.25  # of the runs at either end, which an interquartile mean leaves out


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half, robust to single lucky or failed runs."""
    from scipy.stats import trim_mean

    mean: np.ndarray = trim_mean(values, TRIMMED, axis=axis)
    return mean


class Spread(NamedTuple):
    """How far an IQM may be from that of endlessly many runs; NaN for single runs, unknown."""

    error: np.ndarray  # [...] its standard error
    low: np.ndarray  # [...] ends of the confidence interval
    high: np.ndarray  # [...]


def spread(strata: Sequence[np.ndarray], confidence: float = 0.95) -> Spread:
    """Standard error and interval of the IQM over all runs of all strata (Tukey & McLaughlin 1963).

    Only the noise of runs within their stratum (a task, or a setting) counts, not the spread
    between strata. With runs x_ki of stratum k, clipped to the middle half of all runs, which is
    of h runs, h_k of them the stratum's,

        error² = Σ_k V_k,  V_k = h_k / ((h_k - 1) h²) · Σ_i (x_ki - x̄_k)²

    The interval is Student's with (Σ V_k)² / Σ V_k²/(h_k - 1) degrees of freedom (Satterthwaite),
    so it widens as it must for few runs: a bootstrap of 2 covers half of what it says.

    Args:
        strata: values of each stratum's runs [..., S_k], with the same leading axes.
        confidence: of the two-sided interval.
    """
    from scipy.special import stdtrit

    if confidence not in CONFIDENCE or confidence == 1.0:
        raise ValueError(f"confidence={confidence} is out of range: it must be > 0 and < 1")
    pooled = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    center, number = iqm(pooled), pooled.shape[-1]
    if all(stratum.shape[-1] == 1 for stratum in strata):
        unknown = np.full_like(center, np.nan)
        return Spread(unknown, unknown, unknown)
    if any(stratum.shape[-1] == 1 for stratum in strata):
        raise ValueError("strata: every stratum needs at least 2 runs, or every stratum 1")
    cut = int(TRIMMED * number)
    middle = pooled[..., cut, None], pooled[..., number - cut - 1, None]
    inside = np.stack([((x >= middle[0]) & (x <= middle[1])).sum(axis=-1) for x in strata])
    # Runs that are equal to an end share what is in the middle half among their strata.
    kept = np.maximum(2.0, inside * ((number - 2 * cut) / np.maximum(inside.sum(axis=0), 1)))
    squares = np.stack([x.var(axis=-1) * x.shape[-1] for x in (x.clip(*middle) for x in strata)])
    variances = squares * kept / (kept - 1) / (number - 2 * cut) ** 2
    variance = variances.sum(axis=0)
    squared = (variances**2 / (kept - 1)).sum(axis=0)
    freedom = np.where(squared > 0, variance**2 / np.where(squared > 0, squared, 1.0), 1.0)
    width = stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(variance)
    return Spread(np.sqrt(variance), center - width, center + width)
