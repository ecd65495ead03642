"""The page's data of a sweep's directory."""

import collections
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.report.curves import plain
from jaxrl_po.host.report.timing import timing
from jaxrl_po.host.report.training import flat
from jaxrl_po.host.sweeps.ranges import value_text
from jaxrl_po.host.sweeps.read import SweepPlan, read_plan, read_sweep
from jaxrl_po.host.sweeps.results import SweepResult
from jaxrl_po.host.sweeps.sensitivity import sensitivity, strata, varied_fields
from jaxrl_po.host.sweeps.winner import train_command

MAX_SETTINGS = 8  # whose curves the page has: the best
MAX_ROWS = 50  # of its table
COLUMNS = ("final_return", "low", "high", "best_return", "num_diverged", "seconds")


class SweepSource:
    """A sweep's directory: how far it is, and its result once it has ended."""

    def __init__(self, directory: Path, name: str) -> None:
        """Read what the sweep is; the page calls it by a name.

        Raises:
            ValueError: when its sweep.json cannot be used.
        """
        self.directory, self._name, self._plan = directory, name, read_plan(directory)
        self._known: tuple[float, SweepResult] | None = None

    def read(self) -> dict[str, Any]:
        """The page's data of it."""
        path = self.directory / "members.csv"
        if not path.is_file():
            return sweep_page(self.directory, self._name, self._plan, None)
        written = path.stat().st_mtime
        if self._known is None or self._known[0] != written:
            self._known = written, read_sweep(self.directory)
        return sweep_page(self.directory, self._name, self._plan, self._known[1])


def sweep_page(
    directory: Path, name: str, plan: SweepPlan, result: SweepResult | None
) -> dict[str, Any]:
    """The page's data of a sweep; without a result, of one that goes on."""
    page = {
        "name": name,
        "kind": "sweep",
        "title": f"sweep of {plan.config.algorithm} on {plan.config.env_id}",
        "status": _progress(directory, plan),
        "facts": [
            ("settings", f"{len(plan.settings):,}"),
            ("seeds", f"{plan.num_seeds}"),
            ("swept", ", ".join(plan.settings[0]) or "nothing"),
        ],
        "x_label": "environment steps",
        "main": ["episode_return"],
        "groups": [],
        "evaluations": [],
        "notes": [],
        "samples": [],
        "config": flat({n: v for n, v in plan.config.to_dict().items() if n not in plan.swept}),
        "versions": flat(plan.conditions),
        "timing": timing(directory, "sweep.json", 0),
    }
    if result is None:
        note = "its curves and tables are written when all members have trained"
        return page | {"notes": [{"level": "info", "text": note}]}
    return page | _outcome(plan, result)


def _progress(directory: Path, plan: SweepPlan) -> str:
    """How many members have trained, of several rungs in the newest that any has ended."""
    files = (directory / "members").glob("rung*.npz")
    ended = collections.Counter(path.name.partition("-")[0] for path in files)
    rungs = plan.rungs
    newest = max((rung for rung in range(len(rungs)) if ended[f"rung{rung}"]), default=0)
    members = counted(rungs[newest] * plan.num_seeds, "member")
    trained = f"{ended[f'rung{newest}']:,} of {members} trained"
    called = "round" if plan.evolves else "rung"
    return trained if len(rungs) == 1 else f"{called} {newest + 1} of {len(rungs)}: {trained}"


def _outcome(plan: SweepPlan, result: SweepResult) -> dict[str, Any]:
    """What a sweep that has ended adds to its page."""
    best = result.summary.rows()[:MAX_SETTINGS]
    lines = result.summary_text().splitlines()
    found: dict[str, Any] = {
        "status": "complete",
        "groups": [_group(plan, result, row) for row in best],
        "notes": [{"level": "warn", "text": line} for line in lines[1:]],
    }
    diverged = int(result.table["diverged"].sum())
    if diverged:
        text = f"{diverged} of {counted(len(result.table['diverged']), 'member')} diverged"
        found["notes"].append({"level": "bad", "text": text})
    command = None
    if result.best is not None and not (plan.given or plan.evolves):
        command = train_command(plan.configs[result.first], plan.seed, plan.num_seeds)
    fields = varied_fields(result) if result.tells_of_fields else []
    found["sweep"] = {
        "best": lines[0],
        "command": command,
        "sensitivities": [_sensitivity(result, field) for field in fields],
        "table": _table(result),
        "num_settings": len(plan.settings),
        "pruned": bool(result.summary["pruned"].any()),
    }
    return found


def _group(plan: SweepPlan, result: SweepResult, row: dict[str, Any]) -> dict[str, Any]:
    """Curves of a setting, which a row of the summary is of, a line for each seed."""
    setting = row["setting"]
    known = np.isfinite(result.timesteps[setting])
    seeds = [f"seed {plan.seed + s}" for s in range(plan.num_seeds)]
    return {
        "label": label({name: row[name] for name in result.fields}),
        "seeds": seeds,
        "x": plain(result.timesteps[setting][known]),
        "values": {"episode_return": plain(result.returns[setting][:, known])},
    }


def label(setting: dict[str, Any]) -> str:
    """A setting for people."""
    shown = [f"{name} {value_text(value)}" for name, value in setting.items()]
    return ", ".join(shown) or "the only setting"


def _sensitivity(result: SweepResult, field: str) -> dict[str, Any]:
    found = sensitivity(result, field)
    points = [
        [plain(value) for value in np.concatenate(strata(result, {field: value}))]
        for value in found.values
    ]
    return {
        "field": field,
        "values": found.values if found.numeric else [str(value) for value in found.values],
        "center": plain(found.center),
        "low": plain(found.low),
        "high": plain(found.high),
        "points": points,
        "numeric": found.numeric,
        "logarithmic": found.logarithmic,
        "joined": found.numeric and not found.sampled,
    }


def _table(result: SweepResult) -> dict[str, Any]:
    """The best settings, a row each."""
    names = [*result.fields, *COLUMNS]
    rows = [[_cell(row[name]) for name in names] for row in result.summary.rows()[:MAX_ROWS]]
    return {"names": names, "rows": rows}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return str(value)
