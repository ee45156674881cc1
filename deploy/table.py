"""Tables on a terminal: columns aligned, verdicts in colour where a person looks; none in a pipe or with NO_COLOR."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TextIO

from config.messages import Judgement

NOTHING = "-"
_COLOURS = {Judgement.PASS: "32", Judgement.REVIEW: "33", Judgement.REJECT: "31", Judgement.FAULT: "1;35"}
_WIDEST = 60  # characters of a cell


class Screen:
    """Where tables are shown, with colours or without."""

    def __init__(self, file: TextIO) -> None:
        """Look whether `file` is a terminal."""
        self._colours = file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def table(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield a table's lines; a column of numbers is aligned to the right."""
        shown = [[_printable(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(names, *shown, strict=True)]
        right = [all(_is_number(row[index]) for row in shown) for index in range(len(names))]

        def line(cells: Sequence[str]) -> str:
            padded = [
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(cells, widths, right, strict=True)
            ]
            return "  ".join(map(self._coloured, padded)).rstrip()

        yield line(names)
        yield from map(line, shown)

    def _coloured(self, cell: str) -> str:
        word = cell.strip()
        if not self._colours or word not in _COLOURS:
            return cell
        return cell.replace(word, f"\x1b[{_COLOURS[Judgement(word)]}m{word}\x1b[0m")


def clock(moment: datetime | None) -> str:
    """Write a time in this machine's zone."""
    return NOTHING if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a measured number."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def share(value: float) -> str:
    """Write a share of 1 with the digits that a small one needs."""
    return f"{value:.2%}" if value == 0 or value >= 0.001 else f"{value:.2g}"  # noqa: PLR2004 - below, % shows too little


def _printable(cell: str) -> str:
    """Return a cell as it may stand on a terminal: what was stored cannot command it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell == NOTHING or cell.replace(".", "", 1).replace("+", "", 1).replace("%", "", 1).lstrip("-").isdecimal()
