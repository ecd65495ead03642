"""Which kind of directory it is, and what the page says of it."""

import datetime
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxrl_po.host.report.sweeps import SweepSource
from jaxrl_po.host.report.training import language_source, run_source
from jaxrl_po.version import __version__


class Source(Protocol):
    """A directory to look at."""

    directory: Path

    def read(self) -> dict[str, Any]:
        """The page's data of it, as it is now."""


KINDS: dict[str, Callable[[Path, str], Source]] = {
    "config.json": run_source,
    "sweep.json": SweepSource,
    "rlhf.json": language_source,
}


def open_sources(directories: Sequence[str | os.PathLike[str]]) -> list[Source]:
    """What is in these directories.

    Raises:
        ValueError: naming the directory that holds no run, sweep or RLHF run, or that is named
            twice, or the file in it that cannot be used.
    """
    paths = [Path(directory) for directory in directories]
    if not paths:
        raise ValueError("directories: there must be at least one")
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise ValueError(f"directory={str(path)!r} is named twice")
    names = [path.resolve().name for path in paths]
    # Folders of one name are called by their paths.
    named = [str(p) if names.count(n) > 1 else n for p, n in zip(paths, names, strict=True)]
    return [_open(path, name) for path, name in zip(paths, named, strict=True)]


def _open(path: Path, called: str) -> Source:
    for name, kind in KINDS.items():
        if (path / name).is_file():
            return kind(path, called)
    missing = "is no directory" if not path.is_dir() else "holds no run"
    raise ValueError(
        f"directory={str(path)!r} {missing}: there is none of {', '.join(KINDS)} in it"
    )


def page_data(sources: Sequence[Source]) -> dict[str, Any]:
    """All that the page shows, as JSON has it.

    Raises:
        ValueError: naming the directory and what in it cannot be read.
        OSError: when a file cannot be read.
    """
    return {"version": __version__, "runs": [_read(source) for source in sources]}


def _read(source: Source) -> dict[str, Any]:
    """The page's data of a directory, whose files may hold anything that is JSON."""
    try:
        return source.read()
    except KeyError as error:
        reason = f"there is no {error}"
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        reason = str(error)
    raise ValueError(f"directory={str(source.directory)!r} cannot be shown: {reason}")


def stamp() -> str:
    """When a page was written."""
    return datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
