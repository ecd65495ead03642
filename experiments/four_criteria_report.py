"""Tables and figures of `four_criteria.py`, from its measurements."""

import io
import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from quoted import stale

COLOURS = {
    "VPG": "#777777",
    "NPG": "#56B4E9",
    "TRPO": "#0072B2",
    "PPO": "#D55E00",
    "PPO-penalty": "#E69F00",
    "DQN": "#009E73",
}
LINES: dict[str, Any] = {"NPG": {"linestyle": "--", "zorder": 3}}  # it often lies on TRPO
EPOCH_COLOURS = {"1": "#9ecae1", "4": "#4292c6", "10": "#08306b"}
PLATEAU = 0.9  # of the best score
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def write_report(results: dict[str, Any], directory: pathlib.Path) -> None:
    """Write `four_criteria.md` and its figures; a discussion there is taken in if it holds."""
    with plt.rc_context(STYLE):
        draw_curves(results, directory / "four_criteria_curves.png")
        draw_robustness(results, directory / "four_criteria_robust.png")
        draw_epochs(results, directory / "four_criteria_epochs.png")
    tables = [
        header(results),
        general_table(results),
        efficiency_table(results),
        epochs_table(results),
        robustness_table(results),
        simplicity_table(results),
    ]
    report = "\n\n".join(part.strip() for part in tables)
    (directory / "four_criteria.md").write_text(
        f"{report}\n\n{discussion(results, report, directory)}".strip() + "\n"
    )


def discussion(results: dict[str, Any], tables: str, directory: pathlib.Path) -> str:
    """The discussion written beside the report; nothing if it quotes what the tables do not say."""
    path = directory / "four_criteria_discussion.md"
    if not path.exists():
        return ""
    text = path.read_text().strip()
    if wrong := stale(text, tables, swept_returns(results)):
        print(f"{path} is left out: the measurements do not say {', '.join(wrong)}")
        return ""
    return text


def swept_returns(results: dict[str, Any]) -> list[float]:
    """Mean return at every step size, which the figures show and the tables do not."""
    rows = [row for by_task in results["sweep"].values() for row in by_task.values()]
    return [float(np.mean(final)) for row in rows for final in row["final"]]


def header(results: dict[str, Any]) -> str:
    """What was run, where, and how to run it again."""
    about, scale = results["about"], results["scale"]
    chosen = "; ".join(
        f"{name} `{results['knobs'][name]}` {number(value)}"
        for name, value in results["chosen"].items()
    )
    discounts = ", ".join(
        f"{task['env_id'].split('-')[0]} {task['gamma']}" for task in results["tasks"].values()
    )
    return f"""# Four criteria, measured

    python experiments/four_criteria.py

{about["date"]}; {about["machine"]}; {about["versions"]}.

**Protocol**

- Every method has {scale["timesteps"]:,} environment steps on every task, in rollouts of 8 × 128,
  two layers of 64 (tanh), observations and rewards normalised. DQN (double, with settings for
  CartPole after RL Baselines3 Zoo) has rollouts of 8 × 32, relu, and raw observations and rewards.
- A task has no setting but its discount: {discounts}.
- A method has no setting but its step size, and the library's defaults otherwise. The step size is
  the best of seven over three decades, judged on {" and ".join(results["untrained"])}
  ({scale["sweep_seeds"]} seeds from 1000; DQN on the discrete one), then the same on all tasks:
  {chosen}.
- All else is measured on seeds 0 to {scale["num_seeds"] - 1}. A return is that of the final policy,
  actions sampled (DQN: ε = 0.04), {scale["num_episodes"]} fresh episodes a seed; ± is the standard
  deviation over seeds."""


def general_table(results: dict[str, Any]) -> str:
    """Final return of every method on every task."""
    rows = []
    for env_id in results["tasks"]:
        finals = {
            name: np.array(by_task[env_id]["final"], float)
            for name, by_task in results["general"].items()
            if env_id in by_task
        }
        best = f"{max(final.mean() for final in finals.values()):.3g}"
        cells = [
            spread(finals[name], bold=f"{finals[name].mean():.3g}" == best)
            if name in finals
            else "–"
            for name in results["general"]
        ]
        rows.append([env_id, *cells])
    return f"""## Generally applicable

{table(["final return", *results["general"]], rows)}

![Learning curves](four_criteria_curves.png)

Training return, mean over the episodes that ended in the last {results["window"]:,} steps: median
over seeds and the middle half of them. Dotted: the threshold of the next table."""


def efficiency_table(results: dict[str, Any]) -> str:
    """Steps to the threshold."""
    rows = []
    for env_id, task in results["tasks"].items():
        cells = []
        for by_task in results["general"].values():
            steps = np.array(by_task[env_id]["steps"] if env_id in by_task else [], float)
            reached = int(np.isfinite(steps).sum())
            median = np.sort(steps)[len(steps) // 2] if len(steps) else np.inf
            text = f"{median / 1000:.0f}k" if np.isfinite(median) else "not reached"
            cells.append(f"{text} ({reached}/{len(steps)})" if len(steps) else "–")
        rows.append([env_id, f"{task['threshold']:g}", *cells])
    return f"""## Data efficient

Environment steps until the training return, as in the figure, reaches a threshold: (upper) median
over seeds, and how many seeds got there.

{table(["task", "threshold", *results["general"]], rows)}"""


def epochs_table(results: dict[str, Any]) -> str:
    """VPG and PPO with several epochs on the same batch."""
    env_id = next(iter(results["tasks"]))
    grid = np.array(results["grids"]["PPO"])
    rows = []
    for name in epoch_names(results):
        final = np.array(results["epochs"][name]["final"], float)
        kl = np.median(np.array(results["epochs"][name]["kl"], float), axis=1)
        best = int(final.mean(axis=1).argmax())
        near = int(np.abs(grid - 1e-3).argmin())
        width = plateau(grid, scores_of(results, env_id, final))
        rows.append(
            [
                name,
                number(grid[best]),
                spread(final[best]),
                f"{kl[best]:.2g}",
                spread(final[near]),
                f"{kl[near]:.2g}",
                f"{width:.1f}",
            ]
        )
    columns = [
        "4 minibatches an epoch",
        "best learning rate",
        "return there",
        "KL there",
        f"return at {number(grid[near])}",
        f"KL at {number(grid[near])}",
        "plateau, decades",
    ]
    return f"""### Several epochs on one batch

{env_id}, each over all learning rates ({results["scale"]["sweep_seeds"]} seeds). KL is the median
over iterations of KL(old‖new) in nats: how far one update went.

{table(columns, rows)}

![Epochs](four_criteria_epochs.png)"""


def robustness_table(results: dict[str, Any]) -> str:
    """Width of the plateau and mean score over three decades of the step size."""
    env_ids = list(results["untrained"])
    rows = []
    for name, by_task in results["scores"].items():
        grid = np.array(results["grids"][name])
        cells = []
        for env_id in env_ids:
            if env_id in by_task:
                score = np.array(by_task[env_id], float)
                cells += [f"{plateau(grid, score):.1f}", f"{np.clip(score, 0, 1).mean():.2f}"]
            else:
                cells += ["–", "–"]
        grid_text = f"{number(grid[0])} … {number(grid[-1])}"
        rows.append([name, results["knobs"][name], grid_text, *cells])
    columns = [f"{env_id}: {x}" for env_id in env_ids for x in ("plateau, decades", "mean score")]
    return f"""## Robust

Return over three decades of the step size ({results["scale"]["sweep_seeds"]} seeds each), as a
score: 0 the untrained policy, 1 the best mean of any method on that task. The plateau is the part
of the three decades with a score of at least {PLATEAU}, interpolated; the mean score is over the
grid, each clipped to [0, 1]. A policy's step is as long as the square root of `max_kl`, so three
decades of `max_kl` are one and a half of step length: the two knobs are not the same measure.

{table(["method", "step size", "grid", *columns], rows)}

![Robustness](four_criteria_robust.png)

Band: one standard deviation, within the range of the seeds. Dotted: the untrained policy."""


def simplicity_table(results: dict[str, Any]) -> str:
    """Lines, hyperparameters and times."""
    scale = results["scale"]
    env_id = next(iter(results["tasks"]))
    rows = []
    for name, cost in results["costs"].items():
        update = cost["update_seconds"]
        own = ", ".join(f"`{field}`" for field in cost["own_fields"])
        rows.append(
            [
                name,
                str(cost["lines"]),
                str(cost["lines_with_calls"]),
                str(cost["fields"]),
                f"{len(cost['own_fields'])}: {own}",
                f"{1000 * update:.1f}" if update else "–",
                f"{results['general'][name][env_id]['cpu_seconds']:.2f}",
            ]
        )
    columns = [
        "method",
        "lines of its function",
        "with all it calls",
        "settings",
        "of these beyond what all have",
        "ms an update",
        f"CPU s a run on {env_id}",
    ]
    return f"""## Simple

Lines are statements of the update as `ast.unparse` prints them (no comments, docstrings, blank
lines), first the method's own function, then with every function of the algorithms and of the
mathematics that it calls; records and configs are not counted, nor for DQN the replay and the
exploration around its update. An update is policy and critic on one rollout of {results["batch"]:,}
steps, the least of {scale["num_timings"]} on one thread. A run is {scale["timesteps"]:,} steps of
training and the evaluation after it.

{table(columns, rows)}"""


def draw_curves(results: dict[str, Any], path: pathlib.Path) -> None:
    """Training return over steps, a panel for each task."""
    tasks = results["tasks"]
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.5 * columns, 2.7 * rows + 0.5), squeeze=False
    )
    for axis, (env_id, task) in zip(axes.flat, tasks.items(), strict=False):
        for name, by_task in results["general"].items():
            if env_id not in by_task:
                continue
            curve = np.array(by_task[env_id]["curve"], float)
            kept = np.isfinite(curve).all(axis=0)
            steps = ((np.arange(curve.shape[1]) + 1) * results["block"] / 1000)[kept]
            low, middle, high = np.quantile(curve[:, kept], (0.25, 0.5, 0.75), axis=0)
            axis.plot(steps, middle, color=COLOURS[name], label=name, **LINES.get(name, {}))
            axis.fill_between(steps, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        axis.axhline(task["threshold"], color="black", linewidth=0.8, linestyle=":")
        axis.set_title(env_id)
        axis.set_xlim(0)
    for axis in axes[-1]:
        axis.set_xlabel("thousand environment steps")
    for row in axes:
        row[0].set_ylabel("training return")
    legend_above(figure, axes.flat[0])
    save(figure, path)


def draw_robustness(results: dict[str, Any], path: pathlib.Path) -> None:
    """Final score over step sizes: a row for each knob's family, a column for each task."""
    env_ids = list(results["untrained"])
    knobs = list(dict.fromkeys(results["knobs"].values()))
    figure, axes = plt.subplots(
        len(env_ids),
        len(knobs),
        figsize=(4.8 * len(knobs), 2.6 * len(env_ids) + 0.5),
        squeeze=False,
        sharey="row",
    )
    handles = {}
    for axis_row, env_id in zip(axes, env_ids, strict=True):
        for axis, knob in zip(axis_row, knobs, strict=True):
            for name, by_task in results["sweep"].items():
                if results["knobs"][name] != knob or env_id not in by_task:
                    continue
                final = np.array(by_task[env_id]["final"], float)
                handles[name] = draw_over_grid(
                    axis, results["grids"][name], final, COLOURS[name], name
                )
            axis.axhline(results["untrained"][env_id], color="black", linewidth=0.8, linestyle=":")
            axis.set_title(f"{env_id}")
            axis.set_xlabel(knob)
        axis_row[0].set_ylabel("final return")
    names = [name for name in COLOURS if name in handles]
    figure.legend([handles[name] for name in names], names, loc="upper center", ncols=len(names))
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    save(figure, path)


def draw_epochs(results: dict[str, Any], path: pathlib.Path) -> None:
    """Final return over learning rates for several epochs on one batch: VPG beside PPO."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.2), sharey=True)
    grid = results["grids"]["PPO"]
    for axis, method in zip(axes, ("VPG", "PPO"), strict=True):
        for name in epoch_names(results):
            if name.startswith(method):
                label = name.split(", ")[1]
                final = np.array(results["epochs"][name]["final"], float)
                draw_over_grid(axis, grid, final, EPOCH_COLOURS[label.split()[0]], label)
        axis.set_title(f"{method} on {next(iter(results['tasks']))}")
        axis.set_xlabel("learning_rate")
        axis.legend(loc="lower left")
    axes[0].set_ylabel("final return")
    figure.tight_layout()
    save(figure, path)


def draw_over_grid(axis: Any, grid: Any, final: np.ndarray, colour: str, label: str) -> Any:
    """Mean over seeds with a band of one standard deviation, on a logarithmic axis."""
    mean, std = final.mean(axis=1), final.std(axis=1)
    line_style = {"marker": "o", "markersize": 4, **LINES.get(label, {})}
    (line,) = axis.plot(grid, mean, color=colour, label=label, **line_style)
    low = np.maximum(mean - std, final.min(axis=1))
    high = np.minimum(mean + std, final.max(axis=1))
    axis.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set_xscale("log")
    return line


def save(figure: Any, path: pathlib.Path) -> None:
    """A PNG of 128 colours: a third of the size, and no eye sees it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)


def legend_above(figure: Any, axis: Any) -> None:
    """One legend for all panels, in a row above them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels))
    figure.tight_layout(rect=(0, 0, 1, 0.94))


def scores_of(results: dict[str, Any], env_id: str, final: np.ndarray) -> np.ndarray:
    """Mean returns [P] on the scale of the robustness table."""
    low = results["untrained"][env_id]
    best = max(np.mean(row[env_id]["final"], axis=1).max() for row in results["sweep"].values())
    scores: np.ndarray = (final.mean(axis=1) - low) / (best - low)
    return scores


def plateau(grid: np.ndarray, score: np.ndarray) -> float:
    """Decades of the grid in which the score, interpolated, is at least `PLATEAU`."""
    exponents = np.log10(grid)
    fine = np.linspace(exponents[0], exponents[-1], 10_001)
    inside = np.interp(fine, exponents, score) >= PLATEAU
    return float(inside.mean() * (exponents[-1] - exponents[0]))


def epoch_names(results: dict[str, Any]) -> list[str]:
    """VPG before PPO, and fewer epochs first."""
    return sorted(
        results["epochs"], key=lambda n: (n.startswith("PPO"), int(n.split(", ")[1].split()[0]))
    )


def spread(values: np.ndarray, bold: bool = False) -> str:
    """Mean ± standard deviation, with digits that fit the size."""
    digits = 2 if np.abs(values).max() < 10 else 1 if np.abs(values).max() < 100 else 0
    text = f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
    return f"**{text}**" if bold else text


def number(value: float) -> str:
    """A power of the grid, in two digits."""
    return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
