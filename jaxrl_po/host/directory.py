"""The run directory: who may write to it, what is being run, and its append-only files."""

import fcntl
import json
import os
from pathlib import Path
from typing import IO, NamedTuple

import jax

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.host.checkpoint import write_whole

FORMAT = 1


class RunSettings(NamedTuple):
    """What a run is beside its config; fixed when it starts."""

    seed: int
    num_seeds: int
    segment_length: int  # iterations between two visits of the host
    evaluate_every: int  # segments
    num_episodes: int  # of an evaluation
    max_episode_steps: int
    keep_checkpoints: int
    given: list[str]  # "env", "network": passed as objects, to be passed again on resume


def lock(directory: Path) -> IO[str]:
    """Make the directory, and keep other processes out of it until the file is closed.

    The lock is the operating system's: a process that dies leaves none behind.

    Raises:
        ValueError: when another process has it.
        OSError: when the directory cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / "lock").open("a+")
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write to {directory}: {os.strerror(error.errno or 0)}"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise ValueError(
            f"directory={str(directory)!r} is in use by another process (pid {owner}): "
            "one run directory takes one process at a time"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def write_description(directory: Path, config: Config, settings: RunSettings) -> None:
    """Write config.json."""
    description = {
        "format": FORMAT,
        "config": config.to_dict(),
        "run": settings._asdict(),
        "versions": {"jax": jax.__version__, "backend": jax.default_backend()},
    }
    write_whole(directory / "config.json", (json.dumps(description, indent=2) + "\n").encode())


def read_description(directory: Path) -> tuple[Config, RunSettings, dict[str, str]]:
    """Read config.json: the config, the settings, and the versions it was written under.

    Raises:
        ValueError: naming what is missing, unreadable, or from a newer version.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise ValueError(
            f"directory={str(directory)!r} holds no run: there is no {path.name} in it"
        )
    try:
        description = json.loads(path.read_text())
        if description["format"] > FORMAT:
            raise ValueError(
                f"its format is {description['format']}; this version of jaxrl_po reads up to "
                f"{FORMAT}: upgrade jaxrl_po"
            )
        config = config_from_dict(description["config"])
        return config, RunSettings(**description["run"]), description["versions"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be used: {error or type(error).__name__}") from error


def changed_fields(old: Config, new: Config) -> list[str]:
    """Names of the fields in which two configs differ, less what a resumed run may change."""
    before, after = old.to_dict(), new.to_dict()
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    longer = new.total_timesteps >= old.total_timesteps and not new.anneal_lr
    return [name for name in changed if not (name == "total_timesteps" and longer)]


class AppendFile:
    """A file that grows at its end, and can be cut back to where a checkpoint was made."""

    def __init__(self, path: Path, position: int = 0) -> None:
        """Open the file and cut it to `position` bytes."""
        self.path = path
        self._file = path.open("ab", buffering=0)
        self.missing = position - self.position  # bytes that were there at the checkpoint
        if self.missing < 0:
            self._file.truncate(position)

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, text: str) -> None:
        """Append text.

        Raises:
            OSError: naming the file.
        """
        data = text.encode()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write {self.path}: {os.strerror(error.errno or 0)}"
            ) from None

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing is buffered."""
        self._file.close()
