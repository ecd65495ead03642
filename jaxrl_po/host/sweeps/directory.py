"""A sweep's directory: that of this very sweep, new or to be continued."""

import contextlib
import pathlib
import reprlib
import tempfile
from collections.abc import Iterator
from typing import Any

from jaxrl_po.host.machine.files import lock, write_whole
from jaxrl_po.host.machine.strict_json import from_json, to_json

# What a sweep writes beside its sweep.json, and a sensitivity for each field.
PRODUCTS = (
    *("members", "members.csv", "summary.csv", "curves.npz", "lineage.csv"),
    *("policies", "best"),
    *("learning_curves.png", "heatmap.png"),
)
# An entry of sweep.json that stands for two arguments, either of which makes members keep states.
CALLED = {"keep_policies": "keep_policies or keep_best"}


@contextlib.contextmanager
def opened(
    directory: str | pathlib.Path | None, identity: dict[str, Any]
) -> Iterator[pathlib.Path]:
    """The folder for the members' files: of this very sweep, new or to be continued."""
    if directory is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary)
        return
    path = pathlib.Path(directory) / "sweep.json"
    with lock(path.parent):
        if path.exists():
            _check_same(path, identity)
        else:
            _check_free(path.parent, list(identity["settings"][0]))
            write_whole(path, (to_json(identity, indent=2) + "\n").encode())
        members = path.parent / "members"
        members.mkdir(exist_ok=True)
        yield members


def _check_free(directory: pathlib.Path, fields: list[str]) -> None:
    """Refuse to write over files that are of no known sweep."""
    names = [*PRODUCTS, *(f"sensitivity_{field}.png" for field in fields)]
    found = [name for name in names if (directory / name).exists()]
    if found:
        raise ValueError(
            f"directory={str(directory)!r} holds {', '.join(found)} but no sweep.json that says "
            "of what: choose another directory, or move them away"
        )


def _check_same(path: pathlib.Path, identity: dict[str, Any]) -> None:
    """Refuse to go on with a sweep that is not this one, naming what differs."""
    try:
        found = dict(from_json(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    if difference := _difference(found, from_json(to_json(identity))):
        raise ValueError(f"{path} is of another sweep: {difference}; choose another directory")


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first entry in which two descriptions differ, or nothing."""
    for name in wanted | found:
        one, other = (entries.get(name, "missing") for entries in (found, wanted))
        if to_json(one) == to_json(other):  # as text, for NaN is not itself
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            return _difference(one, other)
        return f"its {CALLED.get(name, name)} is {reprlib.repr(one)}, not {reprlib.repr(other)}"
    return ""
