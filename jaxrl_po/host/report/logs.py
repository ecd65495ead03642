"""What a run's directory says by now: its metrics, events and samples, read on with each look."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.host.report.curves import MetricTable, plain
from jaxrl_po.host.report.tail import Tail
from jaxrl_po.host.runs.events import divergence_text, excess_text

LEVELS = {"diverged": "bad", "excessive": "bad", "update_held": "warn"}  # of other events: info
NO_RETURN = ("event", "seed", "iteration", "num_episodes")


class Told(NamedTuple):
    """What the logs of a run hold."""

    metrics: MetricTable
    events: list[dict[str, Any]]
    samples: list[dict[str, Any]]


class Logs:
    """The logs of a run that may be going on."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet."""
        self._directory = directory
        self._forget()

    def _forget(self) -> None:
        """Begin anew: the next look reads the files from their starts."""
        directory = self._directory
        self._metrics = Tail(directory / "metrics.jsonl")
        self._events = Tail(directory / "events.jsonl")
        self._samples = Tail(directory / "samples.jsonl")
        self._told = Told(MetricTable(), [], [])

    def read(self) -> Told:
        """All that they hold by now.

        Raises:
            ValueError: naming the file and the line that cannot be read.
        """
        try:
            self._read_metrics()
            self._read_rows(self._events, self._told.events)
            self._read_rows(self._samples, self._told.samples)
        except ValueError:  # what was wrong is told by the next look too, or was put right
            self._forget()
            raise
        return self._told

    def _read_metrics(self) -> None:
        more = True
        while more:
            anew, rows = self._metrics.read()
            if anew:
                self._told = self._told._replace(metrics=MetricTable())
            self._told.metrics.add(rows)
            more = bool(rows)

    def _read_rows(self, tail: Tail, kept: list[dict[str, Any]]) -> None:
        more = True
        while more:
            anew, rows = tail.read()
            if anew:
                kept.clear()
            kept.extend(rows)
            more = bool(rows)


def evaluations(events: list[dict[str, Any]], label: str, steps: int) -> dict[str, Any]:
    """Curves of the evaluations in a run's events, as `MetricTable.group` gives those of metrics.

    Args:
        events: of the run.
        label: of the curves.
        steps: of the environment in an iteration; 1 to count iterations.
    """
    rows = [event for event in events if event.get("event") == "evaluation"]
    for row in rows:
        if not all(isinstance(row.get(name), int) for name in ("seed", "iteration")):
            raise ValueError(f"an evaluation of events.jsonl has no seed or iteration: {row}")
    seeds = sorted({row["seed"] for row in rows})
    iterations = sorted({row["iteration"] for row in rows})
    names = [name for name in (rows[0] if rows else {}) if name not in NO_RETURN]
    values = {name: np.full((len(seeds), len(iterations)), np.nan) for name in names}
    for row in rows:
        cell = seeds.index(row["seed"]), iterations.index(row["iteration"])
        for name in names:
            values[name][cell] = np.nan if row.get(name) is None else row[name]
    return {
        "label": label,
        "seeds": [f"seed {seed}" for seed in seeds],
        "x": [iteration * steps for iteration in iterations],
        "values": {name: plain(array) for name, array in values.items()},
    }


def notes(events: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What happened in a run beside its evaluations, each with how grave it is."""
    found = []
    for event in events:
        kind = event.get("event")
        if kind == "evaluation":
            continue
        found.append({"level": LEVELS.get(str(kind), "info"), "text": _text(event)})
    return found


def _text(event: dict[str, Any]) -> str:
    """An event for people."""
    tellers = {"diverged": divergence_text, "excessive": excess_text}
    kind = str(event.get("event"))
    if kind in tellers:
        return tellers[kind](event)
    rest = [f"{name} {_value(value)}" for name, value in event.items() if name != "event"]
    return f"{kind.replace('_', ' ')}: {', '.join(rest)}"


def _value(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
