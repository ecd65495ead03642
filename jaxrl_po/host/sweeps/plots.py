"""Figures of a sweep: learning curves, sensitivity to one field, a heat map of two."""

import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.sweeps.ranges import value_text
from jaxrl_po.host.sweeps.sensitivity import (
    check_fields,
    distinct,
    sensitivity,
    settings_with,
    strata,
    varied_fields,
)
from jaxrl_po.host.sweeps.statistics import iqm, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxrl_po.host.sweeps.results import SweepResult

MAX_CURVES = 5
MAX_TICKS = 8  # values of a field that are each named on the axis


def plot_learning_curves(result: "SweepResult", settings: Sequence[int] | None = None) -> "Figure":
    """IQM over seeds with its 95 % interval; the best few settings, or those named by number."""
    if settings is None:
        settings = [int(i) for i in result.summary["setting"][:MAX_CURVES]]
    figure, axes = _figure(8.0, 4.2)
    colors = _colors(len(settings))
    for color, setting in zip(colors, settings, strict=True):
        returns = result.returns[setting]
        known = np.isfinite(returns).all(axis=0)
        if not known.any():
            continue
        x, curves = result.timesteps[setting][known], returns[:, known].T
        _, low, high = spread([curves])
        axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(x, iqm(curves), color=color, linewidth=1.8, label=_label(result, setting))
    if len(settings) < len(result.returns):
        axes.set_title(f"{len(settings)} of {len(result.returns)} settings", fontsize=10)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"episode return ({_shown(result)})")
    axes.xaxis.set_major_formatter(_thousands)
    if result.fields and axes.lines:
        figure.legend(
            title=", ".join(result.fields),
            loc="outside right upper",
            alignment="left",
            frameon=False,
            fontsize=8,
            title_fontsize=8,
        )
    return figure


def plot_sensitivity(result: "SweepResult", field: str) -> "Figure":
    """Final return against one field, over all settings of the others (strata of the interval)."""
    found = sensitivity(result, field)
    values, center, low, high, numeric, sampled = found
    figure, axes = _figure(5.0, 3.8)
    x = values if numeric else range(len(values))
    if numeric and not sampled:
        axes.fill_between(x, low, high, color="C0", alpha=0.18, linewidth=0)
        axes.plot(x, center, color="C0", marker="o", markersize=5, linewidth=1.8)
    else:  # neighbours differ in more than this field: no line joins them
        bars = np.abs([center - low, high - center])
        axes.errorbar(x, center, yerr=bars, color="C0", fmt="o", markersize=5, capsize=3)
    if not numeric:
        axes.set_xticks(list(x), [value_text(value) for value in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
    else:
        if found.logarithmic:
            axes.set_xscale("log")
        if len(values) <= MAX_TICKS:
            axes.set_xticks(x, [value_text(value) for value in values])
            axes.minorticks_off()
    axes.set_xlabel(field)
    axes.set_ylabel(f"final return ({_shown(result)})")
    return figure


def plot_heatmap(result: "SweepResult", x: str, y: str) -> "Figure":
    """IQM of the final return over a grid of two fields, and all settings of the others."""
    check_fields(result, x, y)
    columns, rows = distinct(result, x), distinct(result, y)
    chosen = [[{x: column, y: row} for column in columns] for row in rows]
    if not all(settings_with(result, cell).size for line in chosen for cell in line):
        raise ValueError(f"a heat map of {x} and {y} needs a grid of both; these were sampled")
    cells = [[strata(result, cell) for cell in line] for line in chosen]
    grid = np.array([[iqm(np.concatenate(c)) if c else np.nan for c in line] for line in cells])
    figure, axes = _figure(1.8 + 0.75 * len(columns), 1.6 + 0.5 * len(rows))
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="viridis")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2 if np.isfinite(grid).any() else 0.0
    for (row, column), value in np.ndenumerate(grid):
        color = "white" if value < middle else "black"
        text = "–" if np.isnan(value) else f"{value:.3g}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(columns)), [value_text(value) for value in columns])
    axes.set_yticks(range(len(rows)), [value_text(value) for value in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.colorbar(image, ax=axes, label="final return (IQM)")
    return figure


def write_figures(result: "SweepResult", directory: pathlib.Path) -> None:
    """Learning curves; and where they tell of fields, sensitivities and a heat map."""
    figures = {"learning_curves": plot_learning_curves(result)}
    if result.tells_of_fields:
        varied = varied_fields(result)
        figures |= {f"sensitivity_{field}": plot_sensitivity(result, field) for field in varied}
        sizes = [len(distinct(result, field)) for field in varied]
        if len(varied) == 2 and np.prod(sizes) == len(result.summary["setting"]):
            figures["heatmap"] = plot_heatmap(result, *varied)
    for name, figure in figures.items():
        data = io.BytesIO()
        figure.savefig(data, dpi=150)
        write_whole(directory / f"{name}.png", data.getvalue())


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colors(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab10"](i % 10) for i in range(count)]


def _shown(result: "SweepResult") -> str:
    return "IQM, 95 % interval" if result.compared.shape[1] > 1 else "one seed"


def _label(result: "SweepResult", setting: int) -> str:
    row = int(np.flatnonzero(result.summary["setting"] == setting)[0])
    return ", ".join(value_text(result.summary[field][row]) for field in result.fields)


def _thousands(value: float, _: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value else "0"
