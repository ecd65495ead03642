"""Learning curves, from sums over the episodes that finished."""

import numpy as np


def latest_mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean over the latest episodes that finished by each point of a curve [C]; NaN before any.

    Args:
        total: sum over the episodes that finished since the point before [C].
        count: how many they are [C].
    """
    latest = np.maximum.accumulate(np.where(count > 0, np.arange(len(count)), -1))
    return np.where(latest >= 0, (total / np.maximum(count, 1))[latest], np.nan)
