"""The logs of a run as they lie on the disk: how far they reach, what is broken, what mends it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrl_po.host.machine.files import read_prefix, write_whole
from jaxrl_po.host.runs.directory import STREAMS
from jaxrl_po.host.runs.logging import JSON_OF

JSONL, CSV, EVENTS = STREAMS
TABLE_OF = {value: name for name, value in JSON_OF.items()}


def reached(directory: Path) -> int:
    """The last iteration that any log tells of; 0 where none does."""
    found = [0]
    for name in (JSONL, EVENTS):
        for line in reversed(_lines(directory / name)):
            if (iteration := _iteration_of(line)) is not None:
                found.append(iteration)
                break
    header, *rows = _lines(directory / CSV) or [""]
    for row in reversed(rows):
        cell = dict(zip(header.split(","), row.split(","), strict=False)).get("iteration", "")
        if cell.isdecimal():
            found.append(int(cell))
            break
    return max(found)


def mend(
    directory: Path, positions: Mapping[str, int], digests: Mapping[str, str]
) -> tuple[dict[str, int], list[str]]:
    """Bring the logs back to what they held at a checkpoint.

    Args:
        directory: of the run.
        positions: bytes of each log at the checkpoint.
        digests: their SHA-256, of those for which it was noted.

    Returns:
        Where each log is to go on, and what had to be done, for people.

    Raises:
        ValueError: naming a log that is not what was written and that no other brings back.
    """

    def is_intact(name: str, data: bytes) -> bool:
        return len(data) == positions[name] and (
            name not in digests or hashlib.sha256(data).hexdigest() == digests[name]
        )

    kept = {name: read_prefix(directory / name, positions[name]) for name in positions}
    broken = [name for name in positions if not is_intact(name, kept[name])]
    positions, done = dict(positions), []
    for name in broken:
        source = next((s for s in (JSONL, CSV) if name in (JSONL, CSV) and s not in broken), None)
        data = b"" if source is None else _converted(kept[source], source)
        if is_intact(name, data):
            write_whole(directory / name, data)
            done.append(f"{name} was not what had been written: brought back from {source}")
        elif (directory / name).exists():
            raise ValueError(
                f"{directory / name} is not what had been written to it up to the checkpoint: "
                "put it back, or move it away to go on with a new one"
            )
        else:
            positions[name] = 0
            done.append(f"{name} is gone: a new one begins here")
    return positions, done


def check_columns(directory: Path, names: list[str]) -> None:
    """Refuse a metrics.csv with other columns than this version writes.

    Raises:
        ValueError: naming the columns.
    """
    found = (_lines(directory / CSV) or [""])[0].split(",")
    if found != [""] and (odd := sorted(set(found) ^ {"seed", "iteration", *names})):
        raise ValueError(
            f"{directory / CSV} was written by another version of jaxrl_po, whose metrics differ "
            f"in {', '.join(odd)}: resume it with that version"
        )


def _converted(data: bytes, source: str) -> bytes:
    """One metrics log from the other; nothing where it cannot be read."""
    try:
        return _table_from_json(data) if source == JSONL else _json_from_table(data)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return b""


def _table_from_json(data: bytes) -> bytes:
    """The metrics.csv that belongs to a metrics.jsonl, to the byte."""
    lines = data.decode().splitlines()
    rows = [json.loads(line, parse_float=str, parse_int=str) for line in lines]
    cells = [["null" if x is None else x for x in row.values()] for row in rows]
    text = [",".join(rows[0])] if rows else []
    text += [",".join(TABLE_OF.get(x, x) for x in row) for row in cells]
    return "".join(line + "\n" for line in text).encode()


def _json_from_table(data: bytes) -> bytes:
    """The metrics.jsonl that belongs to a metrics.csv, to the byte."""
    header, *rows = data.decode().splitlines() or [""]
    names = header.split(",")
    lines = []
    for row in rows:
        pairs = zip(names, row.split(","), strict=True)
        lines.append("{" + ", ".join(f'"{n}": {JSON_OF.get(x, x)}' for n, x in pairs) + "}\n")
    return "".join(lines).encode()


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.is_file() else []


def _iteration_of(line: str) -> int | None:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    iteration = row.get("iteration") if isinstance(row, dict) else None
    return iteration if isinstance(iteration, int) else None
