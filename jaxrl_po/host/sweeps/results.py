"""What a sweep returns: tables of its members and settings, learning curves, figures."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.config import ANY, ENV_PARAMS, Config
from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.ranges import Setting, value_text
from jaxrl_po.host.sweeps.statistics import iqm, spread
from jaxrl_po.host.sweeps.table import Table


class SweepResult(NamedTuple):
    """P settings, S seeds, C points of a learning curve."""

    table: Table  # a row for each member: its setting, seed, returns, time, whether it diverged
    summary: Table  # a row for each setting, best first: IQM of the final return, its interval
    best: Setting | None  # the setting with the highest score; None: nothing to compare
    fields: tuple[str, ...]  # names of the fields that were swept
    timesteps: np.ndarray  # [P, C] of the learning curves; NaN past a shorter one's end
    returns: np.ndarray  # [P, S, C] mean return of the latest finished episodes; NaN where unknown
    # [P, S] final returns, the sweep's worst for members that went wrong; NaN where all of a
    # setting did
    compared: np.ndarray
    num_compilations: int
    edges: dict[str, str]  # fields whose best value is the "least" or the "greatest" of the sweep
    # of a population: a row for each round and setting, where it came from, its values; settings of
    # the tables are then those of the last round
    lineage: Table | None = None

    def write(self, directory: str | pathlib.Path) -> None:
        """Write summary.csv, curves.npz, members.csv and the figures."""
        from jaxrl_po.host.sweeps.plots import write_figures

        directory = pathlib.Path(directory)
        self.summary.write_csv(directory / "summary.csv")
        curves = io.BytesIO()
        np.savez(curves, timesteps=self.timesteps, returns=self.returns)
        write_whole(directory / "curves.npz", curves.getvalue())
        if self.lineage is not None:
            self.lineage.write_csv(directory / "lineage.csv")
        # The last of what can be read: that it is there tells that the sweep has ended.
        self.table.write_csv(directory / "members.csv")
        write_figures(self, directory)

    @property
    def first(self) -> int:
        """The number of the setting that the summary has first: of `best`, where there is one."""
        return int(self.summary["setting"][0])

    @property
    def tells_of_fields(self) -> bool:
        """Whether settings had one budget and kept their values: their returns tell of fields."""
        alike = self.lineage is None and not self.summary["pruned"].any()
        return self.best is not None and alike

    def schedule(self, setting: int | None = None) -> Table:
        """The rounds that a setting of a population came from, first to last, a row each.

        Args:
            setting: its number; None for the best.

        Raises:
            ValueError: when the sweep is of no population.
        """
        if self.lineage is None:
            raise ValueError("schedule: the sweep was none of a population, settings kept values")
        rows = {(row["round"], row["setting"]): row for row in self.lineage.rows()}
        number = self.first if setting is None else setting
        found = []
        for at in range(max(at for at, _ in rows), 0, -1):
            found.append(rows[at, number])
            number = found[-1]["parent"]
        return Table(found[::-1])

    @property
    def all_diverged(self) -> bool:
        """Whether there is no member that did not."""
        return bool(self.table["diverged"].all())

    def summary_text(self) -> str:
        """The best setting, its return and interval, in a line; what makes it doubtful in more."""
        row = self.summary.rows()[0]
        diverged, members = int(self.table["diverged"].sum()), len(self.table["diverged"])
        if self.best is None:
            steps = f"no episode finished in {row['timesteps']:,} steps"
            lost = "every member" if self.all_diverged else f"{diverged} of {members} members"
            reasons = [f"{lost} diverged"] * bool(diverged) + [steps] * (not self.all_diverged)
            return f"nothing to compare: {', '.join(reasons)}"
        named = ", ".join(f"{name}={value_text(value)}" for name, value in self.best.items())
        sound, seeds = row["num_sound"], row["num_seeds"]
        over = counted(seeds, "seed") if sound == seeds else f"{sound} of {seeds} seeds"
        interval = f" [{row['low']:.1f}, {row['high']:.1f}] (IQM and 95 % interval over {over})"
        text = (
            f"best: {self._called(named)}: final return {row['final_return']:.1f}"
            + (interval if sound > 1 else f" ({over}: no interval)")
            + (f"; {counted(diverged, 'member')} diverged" if diverged else "")
        )
        for name, end in self.edges.items():
            text += f"\nthe best {name} is the {end} of the sweep: a better one may lie beyond"
        return text

    def _called(self, named: str) -> str:
        """The best setting, whose values these are."""
        if self.lineage is not None:
            return f"setting {self.first}, at last {named}"
        return named or "the only setting"


def make_result(
    settings: Sequence[Setting],
    configs: Sequence[Config],
    outcomes: Sequence[Sequence[Outcome]],
    num_compilations: int,
    lineage: Table | None = None,
) -> SweepResult:
    """The tables of a sweep's outcomes [P, S], and of a population's lineage."""
    rows = [
        {"setting": i, **settings[i], **outcome.row}
        for i, seeds in enumerate(outcomes)
        for outcome in seeds
    ]
    compared = _compared(outcomes)
    summary = [
        _summary_row(i, settings[i], [outcome.row for outcome in seeds], compared[i])
        for i, seeds in enumerate(outcomes)
    ]
    summary.sort(key=_rank)
    first = summary[0]["setting"]
    best = None if np.isnan(summary[0]["score"]) else settings[first]
    num_points = max(outcome.curve.size for seeds in outcomes for outcome in seeds)
    return SweepResult(
        table=Table(rows),
        summary=Table(summary),
        best=best,
        fields=tuple(settings[0]),
        timesteps=np.stack([_padded(seeds[0].timesteps, num_points) for seeds in outcomes]),
        returns=np.stack([[_padded(o.curve, num_points) for o in seeds] for seeds in outcomes]),
        compared=compared,
        num_compilations=num_compilations,
        edges={} if best is None or lineage is not None else _edges(settings, best, configs[first]),
        lineage=lineage,
    )


def scores(outcomes: Sequence[Sequence[Outcome]]) -> np.ndarray:
    """What settings are ranked by while they train [P]: the IQM of their final returns so far."""
    return iqm(_compared(outcomes))


def _compared(outcomes: Sequence[Sequence[Outcome]]) -> np.ndarray:
    """Final returns [P, S]; one that diverged, or has none, counts as the worst of the sweep.

    A setting of which all did has nothing of its own to be compared by: NaN.
    """
    final, diverged = (
        np.array([[outcome.row[name] for outcome in seeds] for seeds in outcomes])
        for name in ("final_return", "diverged")
    )
    known = np.isfinite(final)
    sound = known & ~diverged
    worst = final[known].min() if known.any() else np.nan
    return np.where(sound.any(axis=1, keepdims=True), np.where(sound, final, worst), np.nan)


def _summary_row(
    index: int, setting: Setting, rows: list[dict[str, Any]], compared: np.ndarray
) -> dict[str, Any]:
    final = np.array([r["final_return"] for r in rows if not r["diverged"]])
    final = final[np.isfinite(final)]
    shown = spread([final]) if final.size else None
    # One standard error less: of settings that seeds cannot tell apart, the steadier one. The end
    # of an interval would not do, which for two or three seeds is a matter of chance.
    error = np.nan_to_num(spread([compared]).error)
    return {
        "setting": index,
        **setting,
        "num_seeds": len(rows),
        "num_sound": final.size,  # which `final_return` is over
        "timesteps": rows[0]["timesteps"],
        "final_return": _iqm_of_known(final),
        "low": float(shown.low) if shown else np.nan,
        "high": float(shown.high) if shown else np.nan,
        "score": float(iqm(compared) - error),
        "best_return": _iqm_of_known([row["best_return"] for row in rows]),
        "area": _iqm_of_known([row["area"] for row in rows]),
        "seconds": sum(row["seconds"] for row in rows),
        "num_diverged": sum(row["diverged"] for row in rows),
        "pruned": rows[0]["pruned"],
    }


def _rank(row: dict[str, Any]) -> tuple[float, ...]:
    """The order of settings: where scores are alike, the sounder, better and sooner one first."""
    score, final, area = (
        -np.nan_to_num(row[name], nan=-np.inf) for name in ("score", "final_return", "area")
    )
    return np.isnan(row["score"]), row["pruned"], score, row["num_diverged"], final, area


def _iqm_of_known(values: Sequence[float] | np.ndarray) -> float:
    known = np.array(values)[np.isfinite(values)]
    return float(iqm(known)) if known.size else np.nan


def _edges(settings: Sequence[Setting], best: Setting, config: Config) -> dict[str, str]:
    """Numbers of the best setting beyond which nothing was tried, though it could have been."""
    allowed = {f.name: f.metadata.get("allowed", ANY) for f in dataclasses.fields(config)}
    edges = {}
    for name, value in best.items():
        tried = {setting[name] for setting in settings}
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in tried)
        if len(tried) < 2 or not numbers:
            continue
        limits = ANY if name.startswith(ENV_PARAMS) else allowed[name]
        for end, edge, limit in (
            ("least", min(tried), limits.low),
            ("greatest", max(tried), limits.high),
        ):
            if value == edge != limit:
                edges[name] = end
    return edges


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values.astype(float), (0, size - values.size), constant_values=np.nan)
