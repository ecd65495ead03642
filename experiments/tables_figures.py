"""Figures of the tables: learning curves, performance profiles, probability of improvement."""

import math
import pathlib
from typing import Any

import numpy as np
from reliability import bootstrap, improvement, profile
from tables_report import Records, comparable, compared, label, parts, scores
from tasks.tables import Suite

DPI = 110


def curves_of(record: dict[str, Any]) -> np.ndarray:
    """Each seed's curve [S, points]."""
    return np.array([outcome["curve"] for outcome in record["seeds"].values()], float)


def draw_curves(suite: Suite, records: Records, path: pathlib.Path) -> None:
    """A panel a task, a curve a method: mean over seeds, and one standard deviation about it."""
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(parts(name).task for name in records))
    width = min(4, len(tasks))
    size = math.ceil(len(tasks) / width), width
    figure, axes = plt.subplots(*size, figsize=(3.2 * width, 2.6 * size[0]), squeeze=False)
    colors = {method: f"C{i}" for i, method in enumerate(methods_of(records))}
    for axis, task in zip(axes.flat, tasks, strict=False):
        for name, record in records.items():
            if parts(name).task != task:
                continue
            method = label(name)
            curves = curves_of(record)
            middles = (np.arange(curves.shape[1]) + 0.5) / curves.shape[1]
            steps = middles * suite.rows[name].total_timesteps / 1e6
            mean, deviation = curves.mean(axis=0), curves.std(axis=0)
            axis.plot(steps, mean, color=colors[method], label=method)
            axis.fill_between(
                steps, mean - deviation, mean + deviation, color=colors[method], alpha=0.2, lw=0
            )
        axis.set(title=task, xlabel="million steps")
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    drawn = [axis.get_legend_handles_labels() for axis in axes.flat]
    lines = {name: line for axis in drawn for line, name in zip(*axis, strict=True)}
    axes.flat[0].legend(lines.values(), lines.keys(), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def methods_of(records: Records) -> list[str]:
    """In the order of the records."""
    return list(dict.fromkeys(map(label, records)))


def draw_profile(suite: Suite, records: Records, path: pathlib.Path) -> None:
    """Performance profiles with bands, and how likely each method's run beats one of PPO."""
    import matplotlib.pyplot as plt

    methods, tasks = compared(suite, records)
    found = {m: scores(suite, records, m, tasks, "sampled") for m in methods}
    thresholds = np.linspace(0.0, 1.5, 151)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(3, 2))
    for method, runs in found.items():
        band = bootstrap(lambda s: profile(s, thresholds), runs)
        (drawn,) = left.plot(thresholds, band.value, label=method)
        left.fill_between(thresholds, band.low, band.high, color=drawn.get_color(), alpha=0.2, lw=0)
    left.set(xlabel="score τ (0 random, 1 published PPO)", ylabel="share of runs above τ")
    left.legend(fontsize=8)
    others = [method for method in methods if method != "ppo"]
    for i, method in enumerate(others):
        chance = bootstrap(improvement, found[method], found["ppo"])
        right.plot([chance.low, chance.high], [i, i], color="C0", lw=6, alpha=0.3)
        right.plot(chance.value, i, "o", color="C0")
    right.axvline(0.5, color="grey", lw=1)
    right.set(xlim=(0, 1), yticks=range(len(others)), yticklabels=others)
    right.set(xlabel="P(a run beats one of PPO)", ylim=(-0.6, len(others) - 0.4))
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def draw(suite: Suite, output: pathlib.Path, records: Records) -> None:
    """The figures of a suite that is compared with published returns."""
    if not comparable(suite, records):
        return
    draw_curves(suite, records, output.with_name(f"{output.name}_curves.png"))
    draw_profile(suite, records, output.with_name(f"{output.name}_profile.png"))
