"""A growing file of JSON lines: each look reads only what was added since the one before."""

import json
import os
from pathlib import Path
from typing import Any

BLOCK = 1 << 23  # bytes of a look: a long log takes several, and little memory


class Tail:
    """The end of a file of JSON lines that another process may be writing."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet; the file need not be there."""
        self._path = path
        self._identity = 0
        self._position = 0
        self._number = 0  # of lines read

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file is another than before or was cut back, and the rows since then.

        A last line without its end is left for the next look. A file that a resumed run cut back
        is read again from its start. A look takes a block: there is more until one has no rows.

        Raises:
            ValueError: naming the file and the line that holds no JSON object.
        """
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                anew = status.st_ino != self._identity or status.st_size < self._position
                if anew:
                    self._position = self._number = 0
                self._identity = status.st_ino
                file.seek(self._position)
                data = file.read(BLOCK)
                while b"\n" not in data and (more := file.read(BLOCK)):
                    data += more
        except FileNotFoundError:
            anew, data = self._position > 0, b""
            self._identity = self._position = self._number = 0
        whole = data[: data.rfind(b"\n") + 1]
        rows = [self._row(*line) for line in enumerate(whole.splitlines(), self._number + 1)]
        self._position += len(whole)
        self._number += len(rows)
        return anew, rows

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line, parse_constant=lambda name: None)  # NaN is none in strict JSON
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{self._path}, line {number}, holds no JSON object")
        return row
