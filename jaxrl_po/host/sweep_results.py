"""What a sweep returns: tables of its members and settings, learning curves, figures."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.host.spaces import Setting
from jaxrl_po.host.statistics import bootstrap_interval, iqm
from jaxrl_po.host.sweep_members import Outcome
from jaxrl_po.host.table import Table


class SweepResult(NamedTuple):
    """P settings, S seeds, C points of a learning curve."""

    table: Table  # a row for each member: its setting, seed, returns, time, whether it diverged
    summary: Table  # a row for each setting, best first: IQM of the final return, its interval
    best: Setting  # the setting whose interval has the highest lower end
    fields: tuple[str, ...]  # names of the fields that were swept
    timesteps: np.ndarray  # [P, C] of the learning curves; NaN past a shorter one's end
    returns: np.ndarray  # [P, S, C] mean return of the latest finished episodes; NaN where unknown
    compared: np.ndarray  # [P, S] final returns, the sweep's worst for members that went wrong
    num_compilations: int

    def write(self, directory: pathlib.Path) -> None:
        """Write members.csv, summary.csv, curves.npz and the figures."""
        from jaxrl_po.host.sweep_plots import write_figures

        self.table.write_csv(directory / "members.csv")
        self.summary.write_csv(directory / "summary.csv")
        np.savez(directory / "curves.npz", timesteps=self.timesteps, returns=self.returns)
        write_figures(self, directory)

    def summary_text(self) -> str:
        """One line: the best setting, its return and interval."""
        row = self.summary.rows()[0]
        named = ", ".join(f"{name}={_short(value)}" for name, value in self.best.items())
        diverged = int(self.table["diverged"].sum())
        return (
            f"best by the lower bound: {named or 'the only setting'}: final return "
            f"{row['final_return']:.1f} [{row['low']:.1f}, {row['high']:.1f}] "
            f"(IQM and 95 % interval over {row['num_seeds']} seeds)"
            + (f"; {diverged} member(s) diverged" if diverged else "")
        )


def make_result(
    settings: Sequence[Setting], outcomes: Sequence[Sequence[Outcome]], num_compilations: int
) -> SweepResult:
    """The tables of a sweep's outcomes [P, S]."""
    rows = [
        {"setting": i, **settings[i], **outcome.row}
        for i, seeds in enumerate(outcomes)
        for outcome in seeds
    ]
    final = _final_returns(outcomes)
    summary = [
        _summary_row(i, settings[i], [outcome.row for outcome in seeds], final[i])
        for i, seeds in enumerate(outcomes)
    ]
    # Where final returns are alike, the setting that learns sooner is the better one.
    order = ("low", "final_return", "area")
    summary.sort(key=lambda r: (r["pruned"], *(-np.nan_to_num(r[n], nan=-np.inf) for n in order)))
    num_points = max(outcome.curve.size for seeds in outcomes for outcome in seeds)
    return SweepResult(
        table=Table(rows),
        summary=Table(summary),
        best=settings[summary[0]["setting"]],
        fields=tuple(settings[0]),
        timesteps=np.stack([_padded(seeds[0].timesteps, num_points) for seeds in outcomes]),
        returns=np.stack([[_padded(o.curve, num_points) for o in seeds] for seeds in outcomes]),
        compared=final,
        num_compilations=num_compilations,
    )


def scores(outcomes: Sequence[Sequence[Outcome]]) -> np.ndarray:
    """What settings are ranked by while they train [P]: the IQM of their final returns so far."""
    return iqm(_final_returns(outcomes))


def _final_returns(outcomes: Sequence[Sequence[Outcome]]) -> np.ndarray:
    """Final returns [P, S]; one that diverged, or has none, counts as the worst of the sweep."""
    final, diverged = (
        np.array([[outcome.row[name] for outcome in seeds] for seeds in outcomes])
        for name in ("final_return", "diverged")
    )
    known = np.isfinite(final)
    worst = final[known].min() if known.any() else 0.0
    # Where all are flagged, returns of thousands need large parameters: then they are compared.
    sound = known if diverged.all() else known & ~diverged
    return np.where(sound, final, worst)


def _summary_row(
    index: int, setting: Setting, rows: list[dict[str, Any]], final: np.ndarray
) -> dict[str, Any]:
    low, high = bootstrap_interval([final])
    return {
        "setting": index,
        **setting,
        "num_seeds": len(rows),
        "timesteps": rows[0]["timesteps"],
        "final_return": float(iqm(final)),
        "low": float(low),
        "high": float(high),
        "best_return": float(iqm(np.array([row["best_return"] for row in rows]))),
        "area": float(iqm(np.array([row["area"] for row in rows]))),
        "seconds": sum(row["seconds"] for row in rows),
        "num_diverged": sum(row["diverged"] for row in rows),
        "pruned": rows[0]["pruned"],
    }


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values.astype(float), (0, size - values.size), constant_values=np.nan)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
