"""The table and the figure of `benchmark.py`, from the measurements it kept."""

import json
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

RESULTS = pathlib.Path(__file__).parent / "results"
LABELS = {
    "own": "jaxrl_po",
    "textbook": "textbook JAX",
    "rejax": "rejax 0.1.3",
    "sb3": "Stable-Baselines3 2.9.2",
    "sb3_trpo": "sb3-contrib 2.9.2",
    "sbx": "sbx 0.28.0",
}
COLUMNS = [
    "",
    "steps/s",
    "jaxrl_po is faster by",
    "steps per CPU second",
    "compile, cold (s)",
    "compile, cached (s)",
    "seconds to a return of 475",
    "peak memory (MiB)",
]
EXPLANATION = """\
Made by `python experiments/benchmark.py`, which says how it measures. Steps/s is the median over
rounds of the fastest of {repeats} calls; compile times include tracing, and are the first round's
with an empty persistent cache and the median of the later ones'. Seconds to the threshold are the
median over 3 seeds of the steps until the mean of the last 100 training episodes reached 475 (for
rejax: of 128 evaluation episodes), divided by the steps/s, without compilation. All JAX programs
of a row are compiled with the same options (on CPU `xla_cpu_multi_thread_eigen=False` and
`xla_cpu_prefer_vector_width=512`, which suit programs of this size). Rows of a few environments run
on one core, with one thread. Calls are long enough that their start does not count: the threads of
the linear algebra that orthogonal weights are drawn with stay busy for some 30 ms. Peak memory is
that of the process, interpreter and libraries included. Ratios between sides measured in the same
rounds are to be trusted more than figures.
"""


def write_report() -> None:
    """Write results/benchmark.md and results/benchmark.png from the measurements that are there."""
    parts = ["# Benchmark\n", EXPLANATION.format(repeats=5)]
    for device in ("cpu", "gpu"):
        path = RESULTS / f"benchmark_{device}.json"
        parts.append(f"\n## {device.upper()}\n")
        if not path.exists():
            parts.append(
                "On [one GPU](gpu.md) some of these rows were measured, by "
                "`bash experiments/gpu.sh`.\n"
                f"`python experiments/benchmark.py --device {device}` would measure all, and has "
                "not been run.\n"
            )
            continue
        results = json.loads(path.read_text())
        parts += [_row_table(row) for row in results.values() if "rounds" in row["measured"]]
        parts += [_sections(results)]
        _figure(results, RESULTS / f"benchmark_{device}.png")
        parts.append(f"\n![Steps per second](benchmark_{device}.png)\n")
    (RESULTS / "benchmark.md").write_text("\n".join(parts))


def _row_table(row: dict[str, Any]) -> str:
    measured = row["measured"]
    own = _median(measured["rounds"]["own"], "steps_per_second")
    lines = [*_heading(measured["title"], row), _line(COLUMNS), _line(["---"] * 8)]
    for side, rounds in measured["rounds"].items():
        speed = _median(rounds, "steps_per_second")
        steps = (measured.get("to_threshold", {}).get(side) or {}).get("steps_to_threshold", [])
        reached = [s for s in steps if s is not None]
        seconds = statistics.median(reached) / speed if reached and speed else None
        cells = [
            LABELS[side],
            _number(speed),
            "" if side == "own" or not (own and speed) else f"{own / speed:.2f}",
            _number(_median(rounds, "steps_per_cpu_second")),
            _number(_median(rounds[:1], "compile_seconds"), 1),
            _number(_median(rounds[1:], "compile_seconds"), 1),
            _number(seconds, 1) + (f" ({len(reached)} of {len(steps)})" if steps else ""),
            _number(_median(rounds, "peak_mib")),
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _heading(title: str, section: dict[str, Any]) -> list[str]:
    return [f"\n### {title}\n", f"{section['measured_on']}\n"]


def _sections(results: dict[str, Any]) -> str:
    lines = []
    if "seeds" in results:
        lines += _heading("Steps/s of all seeds together", results["seeds"])
        lines += [_curve_table(results["seeds"])]
    if "widths" in results:
        lines += _heading("Steps/s against the width of two hidden layers", results["widths"])
        lines += [_curve_table(results["widths"])]
    if "memory" in results:
        peaks = {n: m["peak_mib"] for n, m in results["memory"]["measured"].items()}
        lines += _heading("Peak memory (MiB) against total_timesteps", results["memory"])
        lines += [_line(peaks), _line(["---"] * len(peaks)), _line(map(_number, peaks.values()))]
    if "import" in results:
        seconds = statistics.median(results["import"]["measured"])
        lines += _heading("Import", results["import"])
        lines += [f"`import jaxrl_po` adds {seconds:.2f} s to importing what it depends on."]
    return "\n".join(lines) + "\n"


def _curve_table(section: dict[str, Any]) -> str:
    curves = section["measured"]
    values = [_scalar(value) for value, _ in next(iter(curves.values()))]
    lines = [_line(["", *map(str, values)]), _line(["---"] * (1 + len(values)))]
    for label, points in curves.items():
        speeds = [_number(_median([measured], "steps_per_second")) for _, measured in points]
        lines.append(_line([label, *speeds]))
    return "\n".join(lines)


def _figure(results: dict[str, Any], path: pathlib.Path) -> None:
    """Bars of the rows, and a curve for each of the sections that were measured."""
    mpl.use("Agg")
    labels = {"seeds": "seeds trained together", "widths": "width of two hidden layers"}
    sections = [name for name in labels if name in results]
    panels = 1 + len(sections)
    figure, axes = plt.subplots(
        1, panels, figsize=(3 + 4 * panels, 5), layout="constrained", squeeze=False
    )
    _bars(axes[0, 0], [row["measured"] for row in results.values() if "rounds" in row["measured"]])
    for axis, name in zip(axes[0, 1:], sections, strict=True):
        measured = results[name]["measured"]
        for curve, points in measured.items():
            found = [(_scalar(v), m["steps_per_second"]) for v, m in points if m]
            axis.plot(*zip(*found, strict=True), marker="o", label=curve)
        if name == "widths":
            limits = [
                (_scalar(width), m["matmul_flops"] / flops_per_step(_scalar(width)))
                for width, m in measured["jaxrl_po"]
                if m
            ]
            axis.plot(*zip(*limits, strict=True), "k--", label="matrix products at full speed")
        axis.set(xscale="log", yscale="log", xlabel=labels[name], ylabel="steps/s of all together")
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(axis: Any, rows: list[dict[str, Any]]) -> None:
    sides = [name for name in LABELS if any(name in row["rounds"] for row in rows)]
    height = 0.8 / max(1, len(sides))
    for offset, side in enumerate(sides):
        bars = {
            i + offset * height: _median(row["rounds"][side], "steps_per_second") or 0.0
            for i, row in enumerate(rows)
            if side in row["rounds"]
        }
        axis.barh(list(bars), list(bars.values()), height, label=LABELS[side])
    axis.set_yticks([i + 0.3 for i in range(len(rows))], [row["title"] for row in rows])
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="steps/s")
    axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=3)


def flops_per_step(width: int, inputs: int = 4, outputs: int = 2, epochs: int = 4) -> int:
    """Floating-point operations of PPO's matrix products for one environment step.

    The policy acts, the critic values the state, and in each epoch both are run and
    differentiated, which costs three forward passes.
    """
    policy, value = (2 * (inputs * width + width**2 + width * n) for n in (outputs, 1))
    return (policy + value) * (1 + 3 * epochs)


def _median(rounds: list[Any], name: str) -> float | None:
    values = [measured[name] for measured in rounds if measured and name in measured]
    return statistics.median(values) if values else None


def _scalar(value: Any) -> int:
    return int(value[0] if isinstance(value, list) else value)


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write_report()
