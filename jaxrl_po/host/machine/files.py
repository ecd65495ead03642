"""Files that survive what goes wrong: written whole, appended to, kept to one process."""

import errno
import hashlib
import itertools
import os
import re
import socket
import warnings
import weakref
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on this platform: see `lock`
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".jaxrl_po.tmp"  # ends the name of a file that is being written; no one else's does
OWNER = re.compile(r"(?P<pid>\d+)(?: (?P<host>\S+))?")  # all that a lock file of ours holds
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
NO_SYNC = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}

_held: "weakref.WeakSet[IO[str]]" = weakref.WeakSet()


def new_directory(name: str) -> Path:
    """A folder under runs/ that is not there yet: the name, or the name and a number.

    What separates a suite, an environment and its variant is "_" there.
    """
    name = re.sub("[:/]", "_", name)
    names = (name if n == 1 else f"{name}_{n}" for n in itertools.count(1))
    return next(path for path in map(Path("runs").joinpath, names) if not path.exists())


def lock(directory: Path) -> IO[str]:
    """Make the directory, and keep other processes out of it until the file is closed.

    The lock is the operating system's: a process that dies leaves none behind, and one that forks
    keeps it to itself. Where there are none (Windows, some network file systems) the directory is
    used without, with a warning.

    Raises:
        ValueError: when another process has it, or when a file named lock is not ours.
        OSError: when the directory cannot be written to.
    """
    try:
        is_new = not directory.is_dir()
        directory.mkdir(parents=True, exist_ok=True)
        if is_new:
            sync_directory(directory.parent)
        file = (directory / "lock").open("a+", errors="replace")
    except OSError as error:
        raise named(error, f"cannot write to {directory}") from None
    try:
        file.seek(0)
        owner = file.read(1024).strip()
        if owner and not OWNER.fullmatch(owner):
            raise ValueError(f"{directory / 'lock'} is not a lock of jaxrl_po: move it away")
        _take(file, directory, owner)
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}")
        file.flush()
    except OSError as error:
        file.close()
        raise named(error, f"cannot write {directory / 'lock'}") from None
    except ValueError:
        file.close()
        raise
    _held.add(file)
    return file


def _take(file: IO[str], directory: Path, owner: str) -> None:
    """Lock an open file, or say who has it."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"directory={str(directory)!r} is in use by another process ({_describe(owner)}): "
            "one directory takes one process at a time"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{directory} is on a file system without locks ({os.strerror(error.errno or 0)}): "
            "nothing keeps a second process out of it",
            RuntimeWarning,
            stacklevel=4,
        )


def _describe(owner: str) -> str:
    """Who has a lock, as far as its file tells."""
    match = OWNER.fullmatch(owner)
    if match is None:
        return "pid unknown"
    if match["host"] not in (None, socket.gethostname()):
        return f"pid {match['pid']} on {match['host']}"
    try:
        os.kill(int(match["pid"]), 0)
    except PermissionError:
        return f"pid {match['pid']}"
    except (OSError, OverflowError):
        return f"pid {match['pid']} took it and is gone: a process that it started still has it"
    return f"pid {match['pid']}"


def _drop_inherited() -> None:
    """A lock belongs to an open file, which a forked child shares: it would outlive its owner."""
    for file in list(_held):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_inherited)


def write_whole(path: Path, *data: bytes | memoryview) -> None:
    """Write a file so that, whenever the machine stops, it is there whole or not at all.

    Args:
        path: of the file.
        data: what it is to hold, one piece after the other.

    Raises:
        OSError: naming the file; what was there before stays.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("wb") as file:
            for piece in data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise named(error, f"cannot write {path}") from None


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk: without it a power loss takes back a rename."""
    if not hasattr(os, "O_DIRECTORY"):  # no way to ask for it there
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


class AppendFile:
    """A file that grows at its end, and can be cut back to where a checkpoint was made."""

    def __init__(self, path: Path, position: int = 0) -> None:
        """Open the file and cut it to `position` bytes, which must be there."""
        self.path = path
        self._digest = hashlib.sha256(read_prefix(path, position))
        try:
            self._file = path.open("ab", buffering=0)
            if os.fstat(self._file.fileno()).st_size > position:
                self._file.truncate(position)
        except OSError as error:
            raise named(error, f"cannot write {path}") from None
        self.position = position  # bytes written so far

    @property
    def digest(self) -> str:
        """SHA-256 of all that was written."""
        return self._digest.hexdigest()

    def write(self, text: str) -> None:
        """Append text.

        Raises:
            OSError: naming the file.
        """
        data = text.encode()
        try:
            while data:
                count = self._file.write(data)
                self._digest.update(data[:count])
                self.position += count
                data = data[count:]
        except OSError as error:
            raise named(error, f"cannot write {self.path}") from None

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing is buffered."""
        self._file.close()


def read_prefix(path: Path, position: int) -> bytes:
    """The first bytes of a file, fewer where it has fewer; none of a file that is not there."""
    if not position or not path.exists():
        return b""
    with path.open("rb") as file:
        return file.read(position)


def named(error: OSError, what: str) -> OSError:
    """The same error of the system, saying what could not be done."""
    return OSError(error.errno, f"{what}: {os.strerror(error.errno or 0)}")
