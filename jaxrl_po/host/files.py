"""Files that survive what goes wrong: written whole, appended to, kept to one process."""

import fcntl
import itertools
import os
from pathlib import Path
from typing import IO


def new_directory(name: str) -> Path:
    """A folder under runs/ that is not there yet: the name, or the name and a number."""
    names = (name if n == 1 else f"{name}_{n}" for n in itertools.count(1))
    return next(path for path in map(Path("runs").joinpath, names) if not path.exists())


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
        raise named(error, f"cannot write to {directory}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise ValueError(
            f"directory={str(directory)!r} is in use by another process (pid {owner}): "
            "one directory takes one process at a time"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that, whenever the machine stops, it is there whole or not at all.

    Raises:
        OSError: naming the file; what was there before stays.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise named(error, f"cannot write {path}") from None


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
            raise named(error, f"cannot write {self.path}") from None

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing is buffered."""
        self._file.close()


def named(error: OSError, what: str) -> OSError:
    """The same error of the system, saying what could not be done."""
    return OSError(error.errno, f"{what}: {os.strerror(error.errno or 0)}")
