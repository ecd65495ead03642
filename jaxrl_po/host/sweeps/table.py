"""A small table: named columns of equal length, as CSV, Parquet or a pandas DataFrame."""

import csv
import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.imports import import_extra

MAX_ROWS = 20  # that are shown; files have all


class Table(Mapping[str, np.ndarray]):
    """Columns by name; `len(table.rows())` rows. Notebooks show it as a DataFrame."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        """From rows that have the same keys; values that are no scalars are written as text."""
        names = list(rows[0]) if rows else []
        self._columns = {name: np.array([_scalar(row[name]) for row in rows]) for name in names}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def rows(self) -> list[dict[str, Any]]:
        """One dict a row, of plain Python values."""
        columns = [column.tolist() for column in self._columns.values()]
        rows = zip(*columns, strict=True)
        return [dict(zip(self._columns, values, strict=True)) for values in rows]

    def __str__(self) -> str:
        return self.text(MAX_ROWS)

    def text(self, max_rows: int) -> str:
        """The table for a terminal, with so many of its rows."""
        rows = self.rows()
        cells = [list(self)] + [[_text(v) for v in row.values()] for row in rows[:max_rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.rjust, line, widths)) for line in cells]
        return "\n".join(lines + [f"… {len(rows)} rows"] * (len(rows) > max_rows))

    def write_csv(self, path: pathlib.Path) -> None:
        """Write the table, or leave the old file as it was."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self._columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        write_whole(path, text.getvalue().encode())

    def write_parquet(self, path: pathlib.Path) -> None:
        """Write the table as Parquet."""
        pyarrow = import_extra("pyarrow", "sweep")
        parquet = import_extra("pyarrow.parquet", "sweep")
        parquet.write_table(pyarrow.table(self._columns), path)

    def to_pandas(self) -> Any:
        """The table as a DataFrame."""
        return import_extra("pandas", "sweep").DataFrame(self._columns)

    def _repr_html_(self) -> str:
        html: str = self.to_pandas().to_html(index=False, max_rows=MAX_ROWS)
        return html


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"  # unknown
    return str(value)


def _scalar(value: Any) -> Any:
    return str(value) if isinstance(value, tuple | list | dict) else value
