"""A small table: named columns of equal length, as CSV, Parquet or a pandas DataFrame."""

import csv
import importlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


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

    def write_csv(self, path: pathlib.Path) -> None:
        """Write the table, or leave the old file as it was."""
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self._columns), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows())
        os.replace(temporary, path)

    def write_parquet(self, path: pathlib.Path) -> None:
        """Write the table as Parquet."""
        pyarrow = _optional("pyarrow", "write_parquet")
        parquet = _optional("pyarrow.parquet", "write_parquet")
        parquet.write_table(pyarrow.table(self._columns), path)

    def to_pandas(self) -> Any:
        """The table as a DataFrame."""
        return _optional("pandas", "to_pandas").DataFrame(self._columns)

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False, max_rows=20)


def _optional(module: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{purpose} needs {module}: pip install 'jaxrl-po[sweep]'"
        ) from error


def _scalar(value: Any) -> Any:
    return str(value) if isinstance(value, tuple | list | dict) else value
