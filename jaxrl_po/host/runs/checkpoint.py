"""Checkpoints: one file each, written whole or not at all, and checked to the byte when read.

Not orbax: its CheckpointManager (0.12.8) restored wrong weights without an error after one flipped
bit in its data file, wrote forty files and took 60 ms of CPU for a state of 30 kB. A run that
checkpoints at every visit needs a millisecond, and damage must be seen.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from jaxrl_po.host.machine.files import TEMPORARY, write_whole

NAME = re.compile(r"(?P<iteration>\d{10})-(?P<digest>[0-9a-f]{32})\.safetensors")


class Checkpoint(NamedTuple):
    """A saved state."""

    iteration: int
    arrays: dict[str, np.ndarray]  # by path
    notes: dict[str, Any]  # what the run wants to know beside its state


class Damaged(NamedTuple):
    """A file that is not what was written."""

    path: Path
    reason: str


def save(
    directory: Path, iteration: int, arrays: Mapping[str, np.ndarray], notes: dict[str, Any]
) -> Path:
    """Write a checkpoint. Its name carries the SHA-256 of its bytes, so that damage shows."""
    data = safetensors.numpy.save(dict(arrays), metadata={"notes": json.dumps(notes)})
    path = directory / f"{iteration:010d}-{_digest(data)}.safetensors"
    write_whole(path, data)
    return path


def files(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first; what has another name is not ours."""
    return sorted(path for path in directory.glob("*.safetensors") if NAME.fullmatch(path.name))


def load_newest(directory: Path) -> tuple[Checkpoint | None, list[Damaged]]:
    """The newest checkpoint that is intact, and the damaged ones that are newer."""
    damaged: list[Damaged] = []
    for path in reversed(files(directory)):
        try:
            return load(path), damaged
        except (ValueError, OSError) as error:
            damaged.append(Damaged(path, str(error)))
    return None, damaged


def set_aside(path: Path) -> Path:
    """Give a damaged checkpoint a name that is no checkpoint's."""
    return path.rename(path.with_name(path.name + ".damaged"))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: when the file is not, to the byte, what was written.
    """
    name = NAME.fullmatch(path.name)
    if name is None:
        raise ValueError(f"{path.name} is not the name of a checkpoint")
    data = path.read_bytes()
    if _digest(data) != name["digest"]:
        raise ValueError(f"{path.name} is damaged: its bytes are not those its name stands for")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        notes = json.loads(header["__metadata__"]["notes"])
        with safe_open(path, framework="numpy") as opened:  # `load` knows no bfloat16
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} holds no checkpoint: {error}") from error
    return Checkpoint(int(name["iteration"]), arrays, notes)


def find(directory: Path, iteration: int) -> Path | None:
    """The file of an iteration's checkpoint."""
    return next((x for x in files(directory) if x.name.startswith(f"{iteration:010d}-")), None)


def keep_only(directory: Path, num_newest: int, iteration: int | None) -> None:
    """Delete all but the newest checkpoints and that of one iteration, and unfinished ones."""
    for path in files(directory)[:-num_newest]:
        if iteration is None or not path.name.startswith(f"{iteration:010d}-"):
            path.unlink()
    for path in directory.glob(f"*{TEMPORARY}"):
        if NAME.fullmatch(path.name.removesuffix(TEMPORARY)):
            path.unlink()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
