"""Learning curves of run directories, with a band over seeds."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.runs.curves import latest_mean
from jaxrl_po.host.runs.directory import CURVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    curves = read_curves(directory / "metrics.csv")
    figure, axes = _figure()
    _draw(axes, curves, "C0")
    name = _text(directory.resolve().name)
    # A name is no formula, whatever dollars it has.
    seeds = counted(len(curves.episode_return), "seed")
    axes.set_title(f"{name}: {seeds}, mean ± sd", parse_math=False)
    data = io.BytesIO()
    figure.savefig(data, dpi=110)
    write_whole(directory / CURVE, data.getvalue())
    return directory / CURVE


def plot_runs(
    directories: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None
) -> "Figure":
    """Learning curves of run directories over each other: mean over seeds, ± one sd.

    Args:
        directories: of the runs.
        names: of the curves; None for the directories' own.

    Returns:
        A figure of Matplotlib: `figure.savefig("runs.png")`.

    Raises:
        ValueError: when there is no directory, or not a name for each, or one holds no metrics.csv
            or a damaged one.
    """
    paths = [Path(directory) for directory in directories]
    names = [path.resolve().name for path in paths] if names is None else list(names)
    if not paths or len(names) != len(paths):
        raise ValueError(f"there are {len(paths)} directories and {len(names)} names")
    figure, axes = _figure()
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        if not (path / "metrics.csv").is_file():
            raise ValueError(f"directory={str(path)!r} holds no run: there is no metrics.csv in it")
        _draw(axes, read_curves(path / "metrics.csv"), f"C{number % 10}", _text(name))
    legend = axes.legend(frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # half a second: only when a run ends

    figure = Figure(figsize=(6, 3.7), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="environment steps", ylabel="episode return")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw(axes: "Axes", curves: Curves, color: str, label: str = "_") -> None:
    """Mean over seeds and a band of one standard deviation, where any seed has a return."""
    known = np.isfinite(curves.episode_return).any(axis=0)
    points, returns = curves.timesteps[known], curves.episode_return[:, known]
    if points.size:
        mean, deviation = np.nanmean(returns, axis=0), np.nanstd(returns, axis=0)
        band = mean - deviation, mean + deviation
        axes.fill_between(points, *band, color=color, alpha=0.25, linewidth=0)
        axes.plot(points, mean, color=color, label=label)


def _text(name: str) -> str:
    """A name that can be drawn, whatever its bytes."""
    return name.encode(errors="replace").decode()
