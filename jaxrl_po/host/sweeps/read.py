"""A sweep's result, read back from its directory once it has ended."""

import csv
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.host.machine.strict_json import from_json
from jaxrl_po.host.sweeps.halving import PRUNERS
from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.ranges import Setting, trained
from jaxrl_po.host.sweeps.results import SweepResult, make_result
from jaxrl_po.host.sweeps.table import Table
from jaxrl_po.loop.parts import Given

TEXTS = {"True": True, "False": False}
# Entries of sweep.json that say what it is; the others, where it runs.
OF_THE_SWEEP = (
    *("config", "settings", "num_seeds", "seed", "prune", "evolve", "keep_policies"),
    *Given._fields,
)


class SweepPlan(NamedTuple):
    """What sweep.json says."""

    config: Config
    settings: list[Setting]  # [P]
    num_seeds: int
    seed: int  # the first
    given: list[str]  # parts that were objects, which no command line can give again
    conditions: dict[str, Any]  # where it began: devices, versions
    prune: str | None
    num_rounds: int  # of a population, whose settings change from round to round; 0: it is none

    @property
    def evolves(self) -> bool:
        """Whether it is of a population."""
        return self.num_rounds > 0

    @property
    def rungs(self) -> list[int]:
        """How many settings train in each rung, or round of a population."""
        if self.evolves:
            return [len(self.settings)] * self.num_rounds
        return [rung.num_settings for rung in PRUNERS[self.prune](len(self.settings))[0]]

    @property
    def configs(self) -> list[Config]:
        """What a setting that is never pruned trains under [P]."""
        _, horizon = PRUNERS[self.prune](len(self.settings))
        return [trained(self.config, setting, horizon) for setting in self.settings]

    @property
    def swept(self) -> list[str]:
        """Names of the fields that its settings give."""
        return list(self.settings[0])


def read_plan(directory: pathlib.Path) -> SweepPlan:
    """What a directory's sweep is.

    Raises:
        ValueError: when the directory holds no sweep, or its sweep.json cannot be used.
    """
    path = directory / "sweep.json"
    if not path.is_file():
        raise ValueError(f"directory={str(directory)!r} holds no sweep: there is no {path.name}")
    try:
        found = from_json(path.read_bytes())
        config = config_from_dict(found["config"])
        settings = [{n: _hashable(v) for n, v in point.items()} for point in found["settings"]]
        given = [name for name in Given._fields if found.get(name) is not None]
        numbers = int(found["num_seeds"]), int(found["seed"])
        if not settings or found["prune"] not in PRUNERS:
            raise ValueError("it has no settings, or an unknown prune")
        prune = found["prune"]
        num_rounds = int(found["evolve"]["num_rounds"]) if "evolve" in found else 0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    where = {name: value for name, value in found.items() if name not in OF_THE_SWEEP}
    return SweepPlan(config, settings, *numbers, given, where, prune, num_rounds)


def read_sweep(directory: str | os.PathLike[str]) -> SweepResult:
    """The result of a sweep that has ended; of it `num_compilations` is 0, for none was needed.

    Raises:
        ValueError: when the directory holds no sweep or one that has not ended, or when
            members.csv or curves.npz are not of this sweep.
    """
    directory = pathlib.Path(directory)
    plan = read_plan(directory)
    path = directory / "members.csv"
    if not path.is_file():
        raise ValueError(f"directory={str(directory)!r}: its sweep has not ended: run it again")
    try:
        with np.load(directory / "curves.npz", allow_pickle=False) as curves:
            timesteps, returns = curves["timesteps"], curves["returns"]
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        outcomes: list[list[Outcome]] = [[] for _ in plan.settings]
        for row in rows:
            setting, number = int(row["setting"]), int(row["seed"]) - plan.seed
            curve = returns[setting, number]
            outcomes[setting].append(Outcome(timesteps[setting], curve, _outcome_row(row)))
        lineage = _read_lineage(directory, plan) if plan.evolves else None
        if {len(seeds) for seeds in outcomes} != {plan.num_seeds}:
            raise ValueError(f"there are not {plan.num_seeds} members of each setting")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} or curves.npz cannot be used: {error}") from error
    settings = plan.settings
    if lineage is not None:
        ends = lineage.rows()[-len(settings) :]
        settings = [{name: row[name] for name in plan.swept} for row in ends]
    return make_result(settings, plan.configs, outcomes, 0, lineage)


def _read_lineage(directory: pathlib.Path, plan: SweepPlan) -> Table:
    """Of a population; a row for each round and setting, in order."""
    with (directory / "lineage.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    floats = {*plan.swept, "final_return"}
    return Table([{n: float(v) if n in floats else int(v) for n, v in r.items()} for r in rows])


def _outcome_row(row: dict[str, str]) -> dict[str, Any]:
    numbers = ("final_return", "best_return", "area", "seconds")
    return {
        "seed": int(row["seed"]),
        "timesteps": int(row["timesteps"]),
        **{name: float(row[name]) for name in numbers},
        **{name: TEXTS[row[name]] for name in ("diverged", "pruned")},
    }


def _hashable(value: Any) -> Any:
    """JSON has lists where settings have tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
