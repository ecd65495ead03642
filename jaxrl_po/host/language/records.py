"""What an RLHF run keeps in its directory: what it is, its logs, samples, checkpoints, policies."""

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.host.machine.arrays import from_host, to_host
from jaxrl_po.host.machine.conditions import check_state_flags, conditions, differences
from jaxrl_po.host.machine.files import AppendFile, write_whole
from jaxrl_po.host.machine.strict_json import from_json, to_json
from jaxrl_po.host.runs import checkpoint, logs
from jaxrl_po.host.runs.directory import STREAMS
from jaxrl_po.host.runs.logging import Logger, Visit, event_logger, table_logger
from jaxrl_po.rlhf.train import RLHFState
from jaxrl_po.types import PyTree

SAMPLES = "samples.jsonl"
FILES = (*STREAMS, SAMPLES)
DESCRIPTION = "rlhf.json"
NOT_COMPARED = "id", "conditions"
OPTIONAL = "critic_from"  # of a description: a run without one is another run, not a broken one
OCCUPIED = DESCRIPTION, *FILES, "checkpoints", "last", "best"


class Restored(NamedTuple):
    """Where a run goes on."""

    state: RLHFState
    iteration: int
    notes: dict[str, Any]
    notices: list[str]  # of what is not as it was


def fingerprint(tree: PyTree) -> str:
    """SHA-256 of all arrays of a tree, names and shapes among them."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        found.update(array.view(np.uint8).reshape(-1).data if array.size else b"")
    return found.hexdigest()


class Records:
    """The files of one run, open for writing; what was written after a checkpoint is cut off."""

    def __init__(self, directory: Path, description: dict[str, Any], resume: bool) -> None:
        """Begin a directory, or hold one that is there against what is to go on in it.

        Raises:
            ValueError: naming what is in the way, or what differs.
        """
        self._folder = directory / "checkpoints"
        self._directory = directory
        if resume:
            self._description = read_description(directory, description)
            check_state_flags(directory, self._description["conditions"])
        else:
            taken = [name for name in OCCUPIED if (directory / name).exists()]
            if taken:
                raise ValueError(
                    f"directory={str(directory)!r} holds {', '.join(taken)}: go on with that run "
                    "(resume=True), or choose another directory"
                )
            self._description = description | {"id": uuid.uuid4().hex, "conditions": conditions()}
            write_whole(directory / DESCRIPTION, to_json(self._description, indent=2).encode())
        self._folder.mkdir(exist_ok=True)
        self.loggers: list[Logger] = []
        self._files: dict[str, AppendFile] = {}

    def restore(self, template: RLHFState) -> Restored | None:
        """The newest intact checkpoint, if there is any.

        Raises:
            ValueError: when there were some, and none is intact.
        """
        saved, damaged = checkpoint.load_newest(self._folder)
        if saved is None:
            if damaged:
                raise ValueError(
                    f"no checkpoint in {self._folder} is intact ({damaged[0].reason}): put one back"
                )
            return None
        if saved.notes["run"] != self._description["id"]:
            raise ValueError(f"a checkpoint in {self._folder} belongs to another run: move it away")
        notices = [
            f"not used: {d.reason}; now {checkpoint.set_aside(d.path).name}" for d in damaged
        ]
        notices += differences(self._description["conditions"])
        return Restored(self._state(template, saved), saved.iteration, saved.notes, notices)

    def state_of(self, template: RLHFState, iteration: int) -> RLHFState:
        """The state of an iteration's checkpoint."""
        path = checkpoint.find(self._folder, iteration)
        if path is None:
            raise ValueError(f"{self._folder} has no checkpoint of iteration {iteration}")
        return self._state(template, checkpoint.load(path))

    def _state(self, template: RLHFState, saved: checkpoint.Checkpoint) -> RLHFState:
        one = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[None], tree), template)
        state: RLHFState = jax.tree.map(lambda x: x[0], from_host(one, saved.arrays))
        return state

    def open(self, restored: Restored | None) -> list[str]:
        """Open the logs where a checkpoint left them, or at their start; what had to be mended."""
        positions = dict.fromkeys(FILES, 0)
        digests: dict[str, str] = {}
        if restored is not None:
            positions, digests = restored.notes["positions"], restored.notes["digests"]
        positions, mended = logs.mend(self._directory, positions, digests)
        self._files = {name: AppendFile(self._directory / name, positions[name]) for name in FILES}
        jsonl, csv, events, _ = self._files.values()
        self.loggers = [table_logger(jsonl, csv), event_logger(events)]
        return mended

    def samples(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add prompts, answers and scores to samples.jsonl."""
        self._files[SAMPLES].write("".join(to_json(row) + "\n" for row in rows))

    def write(self, visit: Visit) -> None:
        """Add an iteration, or what happened in it, to the logs."""
        for logger in self.loggers:
            logger.write(visit)

    def save(self, state: RLHFState, iteration: int, best: dict[str, Any], keep: int) -> None:
        """A checkpoint; the newest and that of the best evaluation are kept."""
        for file in self._files.values():
            file.sync()
        notes = {
            "run": self._description["id"],
            "positions": {name: file.position for name, file in self._files.items()},
            "digests": {name: file.digest for name, file in self._files.items()},
            "best": best,
        }
        arrays = to_host([jax.tree.map(lambda x: x[None], state)])
        checkpoint.save(self._folder, iteration, arrays, notes)
        checkpoint.keep_only(self._folder, keep, best["iteration"])

    def close(self) -> None:
        """Close the files; nothing is buffered."""
        for file in self._files.values():
            file.close()


def description_file(directory: Path) -> Path:
    """The file that says what a directory's run is, or an error if there is none."""
    path = directory / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"directory={str(directory)!r} holds no RLHF run to go on with")
    return path


def read_description(directory: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """What a directory says of its run, which must be the one that is to go on.

    Raises:
        ValueError: naming what differs.
    """
    path = description_file(directory)
    try:
        found = from_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    needed = {*NOT_COMPARED, *expected} - {OPTIONAL}
    if not isinstance(found, dict) or not found.keys() >= needed:
        raise ValueError(f"{path} cannot be used: it does not describe a run")
    now = from_json(to_json(expected))
    then = {name: value for name, value in found.items() if name not in NOT_COMPARED}
    if changed := sorted(different("", then, now)):
        raise ValueError(
            f"{directory} was run with other values of {', '.join(changed)}: a run goes on with "
            "the config, model, prompts, reward and settings that it began with"
        )
    described: dict[str, Any] = found
    return described


def different(name: str, one: Any, other: Any) -> list[str]:
    """The dotted names in which two values of JSON differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        found = (different(f"{name}.{n}".lstrip("."), one.get(n), other.get(n)) for n in names)
        return [n for some in found for n in some]
    return [] if one == other else [name]
