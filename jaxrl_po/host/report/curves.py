"""Learning curves of one run, from rows of its metrics: thinned, a line for each seed."""

from array import array
from typing import Any

import numpy as np

MAX_POINTS = 400  # of a curve on the page
NOT_METRICS = ("seed", "iteration", "timesteps")
COUNTS = {"seed": 0, "iteration": 1}  # and their least values
OF_EPISODES = "episode_"  # means over the episodes that finished: they weigh as much as those


class MetricTable:
    """All metrics of a run so far, by column."""

    def __init__(self) -> None:
        """Empty."""
        self._columns: dict[str, array[float]] = {}  # a list would take four times as much

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add rows of metrics.jsonl; null is what was not a number.

        Raises:
            ValueError: when their names are not those of the rows before, or a value is no number.
        """
        for row in rows:
            if not self._columns:
                self._columns = {name: array("d") for name in row}
            if row.keys() != self._columns.keys() or not row.keys() >= {"seed", "iteration"}:
                raise ValueError(f"rows of metrics.jsonl differ in their names: {', '.join(row)}")
            for name, value in row.items():
                self._add(name, value)

    def _add(self, name: str, value: Any) -> None:
        """Add to a column."""
        try:
            number = np.nan if value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or (name in COUNTS and not COUNTS[name] <= number < np.inf):
            raise ValueError(f"{name}={value!r} of metrics.jsonl cannot be used")
        self._columns[name].append(number)

    def __len__(self) -> int:
        return len(self._columns.get("iteration", ()))

    @property
    def iteration(self) -> int:
        """The last iteration that any seed did; 0 before the first."""
        return int(max(self._columns.get("iteration", ()), default=0))

    def group(self, label: str) -> dict[str, Any]:
        """The curves as the page wants them, of at most `MAX_POINTS` points.

        Returns:
            label, seeds [S], x [C] (environment steps, or iterations where no steps are counted),
            values: metric -> [S][C], None where a seed has none. What is a mean over episodes stays
            what it was until the next episode of the seed finishes.
        """
        columns = {name: np.array(values, float) for name, values in self._columns.items()}
        if not len(self):
            return {"label": label, "seeds": [], "x": [], "values": {}}
        stride = -(-self.iteration // MAX_POINTS)
        bins = (columns["iteration"].astype(int) - 1) // stride
        seeds, member = np.unique(columns["seed"], return_inverse=True)
        shape = len(seeds), int(bins.max()) + 1
        cells = member * shape[1] + bins
        x = np.zeros(shape[1])
        np.maximum.at(x, bins, columns.get("timesteps", columns["iteration"]))
        counts = columns.get("num_episodes", np.ones(len(cells)))
        values = {
            name: _means(column, counts if name.startswith(OF_EPISODES) else None, cells, shape)
            for name, column in columns.items()
            if name not in NOT_METRICS
        }
        ends_at = np.array([bins[member == s].max() for s in range(len(seeds))])
        for name in values:
            if name.startswith(OF_EPISODES):
                values[name] = _latest(values[name], ends_at)
        return {
            "label": label,
            "seeds": [f"seed {seed:.0f}" for seed in seeds],
            "x": x.tolist(),
            "values": {name: plain(array) for name, array in values.items()},
        }


def _means(
    column: np.ndarray, weights: np.ndarray | None, cells: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """The weighted mean of a column's finite values in each cell."""
    weights = np.isfinite(column) * (1.0 if weights is None else weights)
    size = shape[0] * shape[1]
    total = np.bincount(cells, np.where(weights > 0, column, 0.0) * weights, size)
    weight = np.bincount(cells, weights, size)
    means: np.ndarray = np.where(weight > 0, total / np.maximum(weight, 1e-300), np.nan)
    return means.reshape(shape)


def _latest(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where no episode finished, what the latest ones before had; nothing past a seed's end.

    Args:
        values: [S, C], NaN where no episode finished.
        ends: the last point that a seed has come to [S].
    """
    points = np.arange(values.shape[1])
    latest = np.maximum.accumulate(np.where(np.isfinite(values), points, -1), axis=1)
    filled = np.take_along_axis(values, np.maximum(latest, 0), axis=1)
    return np.where((latest >= 0) & (points <= ends[:, None]), filled, np.nan)


def plain(values: np.ndarray) -> Any:
    """Nested lists of six digits, None where a number is none: what JSON has for it."""
    if values.ndim:
        return [plain(row) for row in values]
    return float(f"{values:.6g}") if np.isfinite(values) else None
