"""Rows on their way to PostgreSQL: encoded for COPY as they come, beside what they add to tallies and to what was seen.

Pure. Only bytes are kept of a row, so a batch of thousands takes little memory, and little time to go over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import adapters
from psycopg._copy_base import format_row_binary  # psycopg's own encoder; its public way to it needs a COPY under way
from psycopg.adapt import Transformer
from psycopg.pq import Format
from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from config.errors import InputError
from storage import schema
from storage.partitions import WIDTHS, Partition, partition_of
from storage.rows import COLUMNS, Row, moment

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # of binary COPY: PostgreSQL manual, "COPY"
_KEY = tuple(column.name for column in schema.tally.primary_key if column.name != "hour")
SUMS = ("parts", "scored", "score_sum", "score_squares")
_VIEW_KEY = tuple(column.name for column in schema.view_tally.primary_key if column.name != "hour")
VIEW_SUMS = ("views", "scored", "score_sum", "score_squares")
JUDGED = ("station", "line", "product", "recipe", "recipe_version")  # what their tallies need of a view's verdict
VIEWED = ("camera", "bundle_digest", "verdict", "score")  # and of the view
_LOOKS_KEY = tuple(column.name for column in schema.appearance.primary_key)
LOOKS_SUMS = tuple(column.name for column in schema.appearance.columns if not column.primary_key)
COUNTED = ("trigger_time", "score", "run", *_KEY)  # what the tallies need of a verdict
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
_TYPES = {
    ARRAY: "text",  # `storage/rows.py` makes the bytes
    BigInteger: "int8",
    Boolean: "bool",
    DateTime: "int8",  # likewise
    Double: "float8",
    Integer: "int4",
    LargeBinary: "bytea",
    SmallInteger: "int2",
    Text: "text",
}
TYPES = {table: [_TYPES[type(table.c[name].type)] for name in names] for table, names in COLUMNS.items()}
_SEEN = frozenset({"run", "station", "line", "product", "recipe"})


def _columns(table: Table, names: Iterable[str]) -> itemgetter[Any]:
    return itemgetter(*(COLUMNS[table].index(name) for name in names))


_COUNTED = _columns(schema.verdict, COUNTED)
_JUDGED = _columns(schema.verdict, JUDGED)
_VIEWED = _columns(schema.view, VIEWED)
_TIME = {table: COLUMNS[table].index("trigger_time") for table in WIDTHS}


class Tallies:
    """What verdicts add to the tallies of their hours, and when which run, product … was seen."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Any, ...], list[Any]] = {}

    def add(self, time_us: int, score: float | None, *names: str | int) -> None:
        """Count a verdict by its columns `COUNTED`."""
        key = time_us // _HOUR_US, *names
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0, 0, 0.0, 0.0, time_us, time_us]
        sums[0] += 1
        if score is not None and score - score == 0:  # finite
            sums[1] += 1
            sums[2] += score
            sums[3] += score * score
        if time_us > sums[5]:
            sums[5] = time_us
        elif time_us < sums[4]:
            sums[4] = time_us

    def rows(self) -> list[dict[str, Any]]:
        """Return rows of the table `tally` in one order: two writers never wait for each other in a ring."""
        together: defaultdict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0, 0.0])
        for (hour, _, *names), sums in self._sums.items():
            mine = together[hour, *names]
            for index in range(len(SUMS)):
                mine[index] += sums[index]
        return [
            dict(zip(("hour", *_KEY, *SUMS), (moment(hour * _HOUR_US), *names, *sums), strict=True))
            for (hour, *names), sums in sorted(together.items())
        ]

    def seen(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield kind, name, first and last time of what the verdicts name."""
        for (_, *names), (*_, first_us, last_us) in self._sums.items():
            for kind, name in zip(("run", *_KEY), names, strict=True):
                if kind in _SEEN:
                    yield kind, name, first_us, last_us


class Sums:
    """Numbers that are added up by hours and names."""

    def __init__(self, key: Sequence[str], names: Sequence[str]) -> None:
        self._columns = (*key, *names)
        self._sums: dict[tuple[Any, ...], list[Any]] = {}

    def add(self, key: tuple[Any, ...], *values: float) -> None:
        """Add values to what there is of a key, which begins with the hour."""
        sums = self._sums.get(key)
        if sums is None:
            self._sums[key] = list(values)
        else:
            for index, value in enumerate(values):
                sums[index] += value

    def rows(self) -> list[dict[str, Any]]:
        """Return rows in one order."""
        return [
            dict(zip(self._columns, (moment(hour * _HOUR_US), *names, *sums), strict=True))
            for (hour, *names), sums in sorted(self._sums.items())
        ]


class ViewTallies(Sums):
    """What views add to the tallies of their hours."""

    def __init__(self) -> None:
        super().__init__(("hour", *_VIEW_KEY), VIEW_SUMS)

    def count(
        self, time_us: int, part: tuple[Any, ...], camera: str, bundle: str | None, judgement: str, score: float | None
    ) -> None:
        """Count a view by the columns `VIEWED`, of a part that was judged by the columns `JUDGED`."""
        key = (time_us // _HOUR_US, *part, camera, bundle or "", judgement)
        if score is not None and score - score == 0:  # finite
            self.add(key, 1, 1, score, score * score)
        else:
            self.add(key, 1, 0, 0.0, 0.0)


class Incoming:
    """Rows that go to PostgreSQL in one transaction."""

    def __init__(self) -> None:
        self.counts: Counter[Table] = Counter()
        self.tallies = Tallies()
        self.views = ViewTallies()
        self.appearances = Sums(_LOOKS_KEY, LOOKS_SUMS)
        self._part: tuple[Any, ...] = ()  # whose views come next: a record is a verdict with its views
        self._encoded: dict[Table, bytearray] = {}
        self._encoders: dict[Table, Any] = {}  # psycopg says neither which of its two Transformers there is
        self._views: dict[tuple[str, str | None], list[int]] = {}  # camera and bundle: the first time and the last
        self._days: set[int] = set()

    def add(self, rows: Sequence[tuple[Table, Row]]) -> None:
        """Add the rows of one record, or none of them: raise InputError for what their tables cannot hold."""
        if rows[0][0] is schema.appearance:  # a table of sums alone
            self._look(rows[0][1])
            return
        for index, (table, row) in enumerate(rows):
            if table not in self._encoded:
                self._begin(table)
            try:
                format_row_binary(row, self._encoders[table], self._encoded[table])
            except (TypeError, ValueError, LookupError, OverflowError, psycopg.DataError) as error:
                self._take_back(rows[:index])
                raise InputError(f"{table.name}: a value has the wrong type: {error}") from error
        for table, row in rows:
            self.counts[table] += 1
            if table in _TIME:
                self._note(table, row, row[_TIME[table]])

    def content(self, table: Table) -> Iterator[bytes | bytearray]:
        """Yield what binary COPY takes of a table's rows."""
        yield HEADER
        yield self._encoded[table]
        yield TRAILER

    def seen(self) -> list[dict[str, Any]]:
        """Return rows of the table `seen`, in one order, with the first and the last time here."""
        times: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for kind, name, first_us, last_us in self.tallies.seen():
            times[kind, name] += first_us, last_us
        for (camera, bundle), found in self._views.items():
            times["camera", camera] += found
            times["bundle", bundle or ""] += found
        return [
            {"kind": kind, "name": name, "first_time": moment(min(found)), "last_time": moment(max(found))}
            for (kind, name), found in sorted(times.items())
            if name
        ]

    def partitions(self) -> set[Partition]:
        """Return the partitions that the rows go to, and some that rows of the same day would."""
        days = [moment(day * _DAY_US) for day in self._days]
        return {partition_of(table, day) for table in self.counts if table in WIDTHS for day in days}

    def _begin(self, table: Table) -> None:
        encoder = Transformer(None)
        encoder.set_dumper_types([adapters.types.get_oid(name) for name in TYPES[table]], Format.BINARY)
        self._encoders[table], self._encoded[table] = encoder, bytearray()

    def _take_back(self, rows: Sequence[tuple[Table, Row]]) -> None:
        for table, row in reversed(rows):
            taken = bytearray()
            format_row_binary(row, self._encoders[table], taken)
            del self._encoded[table][-len(taken) :]

    def _look(self, row: Row) -> None:
        hour_us, *names = row[: len(_LOOKS_KEY)]
        sums = row[len(_LOOKS_KEY) :]
        if any("\0" in name for name in names) or not all(value - value == 0 for value in sums):
            raise InputError(f"appearance: names must be text and sums finite, not {names!r:.80}, {sums!r:.80}")
        self.appearances.add((hour_us // _HOUR_US, *names), *sums)

    def _note(self, table: Table, row: Row, time_us: int) -> None:
        """Note when a row was, and whose."""
        self._days.add(time_us // _DAY_US)
        if table is schema.verdict:
            self.tallies.add(*_COUNTED(row))
            self._part = _JUDGED(row)
        elif table is schema.view:
            viewed = _VIEWED(row)
            self.views.count(time_us, self._part, *viewed)
            times = self._views.setdefault(viewed[:2], [time_us, time_us])
            if time_us > times[1]:
                times[1] = time_us
            elif time_us < times[0]:
                times[0] = time_us
