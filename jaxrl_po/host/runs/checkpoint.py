"""Checkpoints: one file each, written whole or not at all, and checked to the byte when read.

Not orbax: its CheckpointManager (0.12.8) restored wrong weights without an error after one flipped
bit in its data file, wrote forty files and took 60 ms of CPU for a state of 30 kB. A run that
checkpoints at every visit needs a millisecond, and damage must be seen.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxrl_po.host.machine.files import TEMPORARY, write_whole

TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}  # of NumPy and JAX, as safetensors calls them
NAME = re.compile(r"(?P<iteration>\d{10})-(?P<digest>[0-9a-f]{32})\.safetensors")


class Checkpoint(NamedTuple):
    """A saved state."""

    iteration: int
    arrays: Mapping[str, np.ndarray]  # by path
    notes: dict[str, Any]  # what the run wants to know beside its state


class Damaged(NamedTuple):
    """A file that is not what was written."""

    path: Path
    reason: str


def save(
    directory: Path, iteration: int, arrays: Mapping[str, np.ndarray], notes: dict[str, Any]
) -> Path:
    """Write a checkpoint. Its name carries the SHA-256 of its bytes, so that damage shows."""
    pieces = _serialized(arrays, {"notes": json.dumps(notes)})
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    path = directory / f"{iteration:010d}-{digest.hexdigest()[:32]}.safetensors"
    write_whole(path, *pieces)
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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest[:32] != name["digest"]:
        raise ValueError(f"{path.name} is damaged: its bytes are not those its name stands for")
    try:
        arrays = _Stored(path)
        notes = json.loads(arrays.metadata["notes"])
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


class _Stored(Mapping[str, np.ndarray]):
    """The arrays of a file, each read as it is asked for: a state may fill half the memory.

    The file stays open, so that a run may delete it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._file = cast(Any, safe_open(path, framework="numpy"))  # `load` knows no bfloat16
        self._names = list(self._file.keys())
        self.metadata: dict[str, str] = self._file.metadata()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        array: np.ndarray = self._file.get_tensor(name)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _serialized(
    arrays: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> list[bytes | memoryview]:
    """A file of safetensors in pieces, of which only the first, its header, is a copy.

    `safetensors.numpy.save` would hold the arrays twice more.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    pieces: list[bytes | memoryview] = []
    position = 0
    # Large types first, so that each array is aligned.
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        end, kind = position + array.nbytes, TYPES.get(str(array.dtype))
        if kind is None:
            raise ValueError(f"{name} is {array.dtype}, of which no file can be made")
        header[name] = {
            "dtype": kind,
            "shape": array.shape,
            "data_offsets": [position, end],
        }
        position = end
        pieces.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *pieces]
