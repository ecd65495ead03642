"""The page's data of a run's directory, and of an RLHF run's."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl_po.host.machine.strict_json import from_json
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.report.logs import Logs, Told, evaluations, notes
from jaxrl_po.host.report.timing import timing

RETURN = "episode_return"
FINAL_FRACTION = 0.1  # of a curve that its last value is told over
LANGUAGE_CURVES = ("objective/scores", "objective/kl_exact")

Facts = list[tuple[str, str]]  # a name and what it is, for people


class LoggedSource:
    """The directory of a run or an RLHF run, read on with each look."""

    def __init__(self, directory: Path, name: str, kind: "Kind") -> None:
        """Read what the run is; the page calls it by a name.

        Raises:
            ValueError: when its description cannot be used.
        """
        self.directory, self._name, self._kind = directory, name, kind
        self._logs = Logs(directory)
        self._description = described(directory / kind.file, kind.entries)

    def read(self) -> dict[str, Any]:
        """The page's data of it."""
        return self._kind.page(self.directory, self._name, self._description, self._logs.read())


class Kind(NamedTuple):
    """What tells one kind of run from the other."""

    file: str  # that describes it
    entries: tuple[str, ...]  # of that file
    page: Callable[[Path, str, dict[str, Any], Told], dict[str, Any]]


def run_source(directory: Path, name: str) -> LoggedSource:
    """The directory of a run."""
    entries = "config", "run", "versions"
    return LoggedSource(directory, name, Kind("config.json", entries, run_page))


def language_source(directory: Path, name: str) -> LoggedSource:
    """The directory of an RLHF run."""
    entries = "config", "settings", "conditions"
    return LoggedSource(directory, name, Kind("rlhf.json", entries, language_page))


def described(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """A description in JSON that has these entries.

    Raises:
        ValueError: naming the file and what it lacks.
    """
    try:
        found = from_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    for name in names:
        if not isinstance(found, dict) or not isinstance(found.get(name), dict):
            raise ValueError(f"{path} cannot be used: it has no entry {name!r}")
    description: dict[str, Any] = found
    return description


def run_page(directory: Path, name: str, description: dict[str, Any], told: Told) -> dict[str, Any]:
    """The page's data of a run, as far as it has come."""
    config = description["config"]
    steps = int(config["num_envs"]) * int(config["num_steps"])
    total = int(config["total_timesteps"]) // steps
    group = told.metrics.group(name)
    evaluated = evaluations(told.events, name, steps)
    clock = timing(directory, "config.json", told.metrics.iteration * steps * len(group["seeds"]))
    facts = [
        ("seeds", str(description["run"].get("num_seeds", len(group["seeds"])))),
        ("steps", f"{told.metrics.iteration * steps:,} of {total * steps:,} a seed"),
        ("return at the end", _last(group, RETURN)),
        ("best greedy evaluation", _best(evaluated, "greedy_return")),
    ]
    return {
        "name": name,
        "kind": "run",
        "title": f"{config['algorithm']} on {config['env_id']}",
        "status": _status(told.metrics.iteration, total, told.events),
        "facts": facts,
        "x_label": "environment steps",
        "main": [RETURN],
        "groups": [group],
        "evaluations": [evaluated],
        "notes": notes(told.events),
        "samples": [],
        "config": flat({**config, **{f"run.{k}": v for k, v in description["run"].items()}}),
        "versions": flat(description["versions"]),
        "timing": clock,
    }


def language_page(
    directory: Path, name: str, description: dict[str, Any], told: Told
) -> dict[str, Any]:
    """The page's data of an RLHF run, as far as it has come."""
    config = description["config"]
    update = config["update"]
    answers = int(update["num_envs"])
    total = int(update["total_timesteps"]) // (answers * int(update["num_steps"]))
    group = told.metrics.group(name)
    evaluated = evaluations(told.events, name, 1)
    facts = [
        ("iterations", f"{told.metrics.iteration:,} of {total:,}, {answers} answers each"),
        ("score at the end", _last(group, LANGUAGE_CURVES[0])),
        ("best test score", _best(evaluated, "score")),
        ("samples kept", f"{len(told.samples):,}"),
    ]
    shown = {**config, **{f"settings.{k}": v for k, v in description["settings"].items()}}
    model = description.get("model_config") or {}
    return {
        "name": name,
        "kind": "rlhf",
        "title": f"RLHF by {update['algorithm']} ({config['estimator']})",
        "status": _status(told.metrics.iteration, total, told.events),
        "facts": facts,
        "x_label": "iterations",
        "main": list(LANGUAGE_CURVES),
        "groups": [group],
        "evaluations": [evaluated],
        "notes": notes(told.events),
        "samples": [sample(row) for row in told.samples],
        "config": flat({**shown, **{f"model.{k}": v for k, v in model.items()}}),
        "versions": flat(description["conditions"]),
        "timing": timing(directory, "rlhf.json", 0),
    }


def sample(row: dict[str, Any]) -> dict[str, Any]:
    """A prompt and its answer as the page shows them: texts, or token ids as text."""
    texts = {name: row.get(name, "") for name in ("prompt", "response")}
    shown = {n: t if isinstance(t, str) else " ".join(map(str, t)) for n, t in texts.items()}
    score = row.get("score")  # a text where it was no finite number
    known = score if isinstance(score, int | float) and math.isfinite(score) else None
    return {"iteration": int(row["iteration"]), **shown, "score": known}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings within settings by dotted names, each as text."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return found


def _status(iteration: int, total: int, events: list[dict[str, Any]]) -> str:
    if any(event.get("event") == "ended" for event in events):
        return f"ended by a callback after {counted(iteration, 'iteration')}"
    if iteration >= total:
        return f"complete: {counted(total, 'iteration')}"
    return f"iteration {iteration:,} of {total:,}"


def _last(group: dict[str, Any], metric: str) -> str:
    """Mean over the seeds of a metric's last tenth, and its spread over them."""
    means = []
    for curve in group["values"].get(metric, []):
        known = [value for value in curve if value is not None]
        last = known[-max(1, round(FINAL_FRACTION * len(known))) :]
        means += [sum(last) / len(last)] * bool(last)
    if not means:
        return "–"
    mean = sum(means) / len(means)
    spread = (sum((m - mean) ** 2 for m in means) / len(means)) ** 0.5
    return f"{mean:.4g}" + (f" ± {spread:.3g}" if len(means) > 1 else "")


def _best(evaluated: dict[str, Any], name: str) -> str:
    """The best of all evaluations, of any seed."""
    curves = evaluated["values"].get(name, [])
    known = [
        (value, x)
        for curve in curves
        for value, x in zip(curve, evaluated["x"], strict=True)
        if value is not None
    ]
    if not known:
        return "–"
    value, x = max(known)
    return f"{value:.4g} (at {x:,})"
