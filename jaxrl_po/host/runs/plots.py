"""The learning curve of a run directory, with a band over its seeds."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.runs.curves import latest_mean
from jaxrl_po.host.runs.directory import CURVE

MAX_POINTS = 100
COLUMNS = ("seed", "timesteps", "episode_return", "num_episodes")


class Curves(NamedTuple):
    """Learning curves of S seeds at C points."""

    timesteps: np.ndarray  # [C] environment steps
    episode_return: np.ndarray  # [S, C] mean return of the latest finished episodes, NaN before


def read_curves(path: Path) -> Curves:
    """Learning curves from a metrics.csv, thinned to `MAX_POINTS` means over whole episodes.

    Raises:
        ValueError: naming the file, when it is no such table.
    """
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            if lacking := set(COLUMNS) - set(rows.fieldnames or COLUMNS):
                raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
            table = np.array([[float(row[name]) for name in COLUMNS] for row in rows])
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    table = table.reshape(-1, len(COLUMNS))
    seeds = np.unique(table[:, 0])
    ends = np.unique(table[:, 1])
    stride = -(-len(ends) // MAX_POINTS) or 1
    points = np.append(ends[stride - 1 : -1 : stride], ends[-1:])
    curves = np.empty((len(seeds), len(points)))
    for curve, seed in zip(curves, seeds, strict=True):
        _, timesteps, returns, counts = table[table[:, 0] == seed].T
        bins = np.searchsorted(points, timesteps)
        finished = counts > 0
        total, count = (
            np.bincount(bins[finished], weights[finished], minlength=len(points))
            for weights in (returns * counts, counts)
        )
        # NaN beyond its end: the seed diverged.
        curve[:] = np.where(points <= timesteps[-1], latest_mean(total, count), np.nan)
    return Curves(points, curves)


def plot_run(directory: Path) -> Path:
    """Draw `learning_curve.png` in a run directory: mean over seeds, ± one standard deviation.

    Raises:
        ValueError: when metrics.csv is damaged.
        OSError: when it cannot be read, or the figure not be written.
    """
    from matplotlib.figure import Figure  # half a second: only when a run ends

    points, returns = read_curves(directory / "metrics.csv")
    known = np.isfinite(returns).any(axis=0)
    points, returns = points[known], returns[:, known]
    figure = Figure(figsize=(6, 3.7), layout="constrained")
    axes = figure.add_subplot()
    if points.size:
        mean, deviation = np.nanmean(returns, axis=0), np.nanstd(returns, axis=0)
        axes.fill_between(points, mean - deviation, mean + deviation, alpha=0.25, linewidth=0)
        axes.plot(points, mean)
    axes.set(xlabel="environment steps", ylabel="episode return")
    name = directory.resolve().name.encode(errors="replace").decode()
    # A name is no formula, whatever dollars it has.
    axes.set_title(f"{name}: {counted(len(returns), 'seed')}, mean ± sd", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, dpi=110)
    write_whole(directory / CURVE, data.getvalue())
    return directory / CURVE
