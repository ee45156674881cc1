"""CSV as RFC 4180 has it, in UTF-8: parts.csv, views.csv and defects.csv; or one file, of the parts.

A text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line's end), or that begins with
an apostrophe, gets an apostrophe before it: a reader that wants the text itself takes one leading apostrophe away.
Numbers stand as they are. Nothing is an empty cell, times are UTC, true and false are written so.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from deploy.exporting import tables
from deploy.exporting.source import Source
from deploy.exporting.tables import Cell, Column

SUFFIX = ".csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def write(source: Source, folder: Path, *, parts_only: bool) -> None:
    """Write the tables."""
    tables.write(source, folder, SUFFIX, _Table, parts_only=parts_only)


class _Table:
    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._file = path.open("x", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow([column.name for column in columns])

    def write(self, row: Sequence[Cell]) -> None:
        self._writer.writerow(map(text, row))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def text(cell: Cell) -> str:
    """Return a cell as it stands in the file."""
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case datetime():
            return cell.astimezone(UTC).isoformat()
        case str():
            return f"'{cell}" if cell.startswith(_FORMULA) else cell
        case _:
            return repr(cell)
