"""The description of a run in its directory: what is being run, and what may change."""

import json
import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.host.machine import arguments
from jaxrl_po.host.machine.conditions import conditions
from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.processes import ALONE, Peers
from jaxrl_po.host.machine.strict_json import digest, from_json, to_json
from jaxrl_po.host.machine.wording import resume_command
from jaxrl_po.host.runs import checkpoint
from jaxrl_po.loop.parts import Given

GIVEN = {*Given._fields, "params"}  # what `run` may have been given as objects
FORMAT = 2  # 1 had no digest, and of the conditions only jax and backend
STREAMS = ("metrics.jsonl", "metrics.csv", "events.jsonl")
CURVE = "learning_curve.png"
# What a run and its loggers write over, or on to; in checkpoints/ a run touches only what has the
# name of a checkpoint.
WRITTEN = ("config.json", *STREAMS, CURVE, "policy", "wandb.json", "tensorboard")


class RunSettings(NamedTuple):
    """What a run is beside its config; fixed when it starts."""

    seed: int
    num_seeds: int
    segment_length: int  # iterations between two visits of the host
    evaluate_every: int  # segments
    num_episodes: int  # of an evaluation
    max_episode_steps: int
    keep_checkpoints: int
    given: list[str]  # of `GIVEN`: objects, all but "params" to be given again on resume

    def checked(self) -> "RunSettings":
        """The same settings.

        Raises:
            ValueError: naming the one that is out of range.
        """
        arguments.seeds(self.seed, self.num_seeds)
        for name in self._fields[2:-1]:
            arguments.integer(name, getattr(self, name))
        if not isinstance(self.given, list) or set(map(str, self.given)) - GIVEN:
            raise ValueError(f"given={self.given!r}: it may hold {', '.join(sorted(GIVEN))}")
        return self


class Description(NamedTuple):
    """What config.json holds."""

    config: Config
    settings: RunSettings
    conditions: dict[str, str]  # that the run began under
    run_id: str  # that its checkpoints carry; "" before there were any


def refuse_occupied(directory: Path) -> None:
    """Refuse a directory in which a new run would write over what is there.

    Raises:
        ValueError: naming what is there.
    """
    if (directory / "config.json").is_file() and _is_run(directory / "config.json"):
        raise ValueError(
            f"directory={str(directory)!r} already holds a run: "
            f"resume it ({resume_command(directory)}) or choose another"
        )
    taken = [name for name in WRITTEN if os.path.lexists(directory / name)]
    taken += [f"checkpoints/{path.name}" for path in checkpoint.files(directory / "checkpoints")]
    if taken:
        raise ValueError(
            f"directory={str(directory)!r} holds {', '.join(taken)}, which a run would write over: "
            "move that away or choose another directory"
        )


def write_description(directory: Path, description: Description) -> None:
    """Write config.json."""
    content = {
        "format": FORMAT,
        "id": description.run_id,
        "config": description.config.to_dict(),
        "run": description.settings._asdict(),
        "versions": description.conditions,
    }
    text = to_json({**content, "sha256": digest(content)}, indent=2)
    write_whole(directory / "config.json", f"{text}\n".encode())


def describe(config: Config, settings: RunSettings, num_devices: int = 1) -> Description:
    """The description of a new run on so many devices."""
    return Description(config, settings, conditions(num_devices), uuid.uuid4().hex)


def read_description(directory: Path, peers: Peers = ALONE) -> Description:
    """Read config.json, of which several processes need see but the first one's.

    Raises:
        ValueError: naming what is missing, unreadable, edited, or from a newer version.
    """
    path = directory / "config.json"

    def read() -> str:
        if not path.is_file():
            raise ValueError(
                f"directory={str(directory)!r} holds no run: there is no {path.name} in it"
            )
        return path.read_bytes().decode(errors="replace")

    text = peers.told(read)
    try:
        return _parse(text)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} cannot be used: {reason or type(error).__name__}") from error


def changed_fields(old: Config, new: Config) -> list[str]:
    """Names of the fields in which two configs differ, less what a resumed run may change."""
    before, after = old.to_dict(), new.to_dict()
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    # What moves with the fraction of the budget that is done, moved otherwise from the start.
    moves = new.anneal_lr or new.at(0.0) is not new
    longer = new.total_timesteps >= old.total_timesteps and not moves
    return [name for name in changed if not (name == "total_timesteps" and longer)]


def _parse(data: str) -> Description:
    description = from_json(data)
    if not isinstance(description, dict):
        raise ValueError(f"it holds a {type(description).__name__}, not the description of a run")
    number = arguments.integer("format", description["format"])
    if number > FORMAT:
        raise ValueError(
            f"its format is {number}; this version of jaxrl_po reads up to {FORMAT}: "
            "upgrade jaxrl_po"
        )
    content = {name: value for name, value in description.items() if name != "sha256"}
    if number > 1 and description["sha256"] != digest(content):
        raise ValueError(
            "it is not what was written: undo the edit (a larger budget is given to resume: "
            "--total-timesteps, or its config)"
        )
    config = config_from_dict(_object(description, "config"))
    run = _object(description, "run")
    if wrong := sorted(run.keys() ^ set(RunSettings._fields)):
        raise ValueError(f"run: {', '.join(wrong)} missing or unknown")
    versions = _object(description, "versions")
    if not all(isinstance(value, str) for value in versions.values()):
        raise ValueError(f"versions must be strings, not {versions!r}")
    return Description(
        config, RunSettings(**run).checked(), versions, str(description.get("id", ""))
    )


def _object(description: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(description[name], dict):
        raise ValueError(f"{name} must be an object, not {description[name]!r}")
    part: dict[str, Any] = description[name]
    return part


def _is_run(path: Path) -> bool:
    """Whether a config.json is a run's, as far as it can be read."""
    try:
        description = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(description, dict) and {"format", "config", "run"} <= description.keys()
