"""One transaction of the writer: rows in, what is counted and known of them, and the journal's cursor behind them.

Rows go straight into their tables by COPY. Where one of them is stored already (records come at least once), all of
them are copied beside and only what is missing is taken over.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from storage import partitions, schema
from storage.record import Position
from storage.rows import COLUMNS, Row

Rows = Mapping[Table, Sequence[Row]]
_TYPES = {
    ARRAY: "text[]",
    BigInteger: "int8",
    Boolean: "bool",
    DateTime: "timestamptz",
    Double: "float8",
    Integer: "int4",
    LargeBinary: "bytea",
    SmallInteger: "int2",
    Text: "text",
}
_COLUMN_TYPES = {table: [_TYPES[type(table.c[name].type)] for name in names] for table, names in COLUMNS.items()}
_INTEGERS: Mapping[type, str] = {SmallInteger: "h", Integer: "i", BigInteger: "q"}  # as array.array names them
_AT = {table: {name: index for index, name in enumerate(names)} for table, names in COLUMNS.items()}
_SEEN = (
    *((schema.verdict, name, name) for name in ("run", "station", "line", "product", "recipe")),
    (schema.view, "camera", "camera"),
    (schema.view, "bundle", "bundle_digest"),
)


def take(connection: Connection, rows: Rows) -> int:
    """Store rows in a transaction that is open; return how many were stored already.

    Raise psycopg's UniqueViolation if any is: then the transaction is lost, and `take_missing` is the way.
    """
    _make_partitions(connection, rows)
    for table, found in rows.items():
        copy_rows(connection, table, table.name, found)
    _count(connection, rows.get(schema.verdict, ()))
    _remember(connection, rows)
    return 0


def take_missing(connection: Connection, rows: Rows) -> int:
    """Store those rows that are not stored yet, in a transaction that is open; return how many there were already."""
    _make_partitions(connection, rows)
    known = 0
    for table, found in rows.items():
        beside = f"incoming_{table.name}"
        connection.execute(
            text(f"CREATE TEMPORARY TABLE {beside} (LIKE {table.name} INCLUDING DEFAULTS) ON COMMIT DROP")
        )
        copy_rows(connection, table, beside, found)
        key = ", ".join(column.name for column in table.primary_key)
        fresh = connection.execute(
            text(
                f"INSERT INTO {table.name} SELECT * FROM {beside} ON CONFLICT DO NOTHING "  # noqa: S608 - our own names
                f"RETURNING {key}"
            )
        ).all()
        known += len(found) - len(fresh)
        if table is schema.verdict:
            stored = {tuple(row) for row in fresh}
            at = [_AT[table][column.name] for column in table.primary_key]
            once = {tuple(row[index] for index in at): row for row in reversed(found)}
            _count(connection, [row for key, row in once.items() if key in stored])
    _remember(connection, rows)
    return known


def move_cursor(connection: Connection, journal: str, end: Position) -> None:
    """Note that everything before `end` is stored."""
    moved = insert(schema.journal_cursor).values(journal=journal, segment=end.segment, position=end.offset)
    connection.execute(
        moved.on_conflict_do_update(
            index_elements=[schema.journal_cursor.c.journal],
            set_={"segment": end.segment, "position": end.offset, "updated_at": func.now()},
        )
    )


def _make_partitions(connection: Connection, rows: Rows) -> None:
    partitions.hold(connection)
    wanted = set()
    for table in rows.keys() & partitions.WIDTHS.keys():
        times = _column(rows, table, "trigger_time")
        first, last = (partitions.partition_of(table, time) for time in (min(times), max(times)))
        wanted |= {first} if first == last else {partitions.partition_of(table, time) for time in times}
    partitions.make(connection, wanted)


def _column(rows: Rows, table: Table, name: str) -> Sequence[Any]:
    return list(map(itemgetter(_AT[table][name]), rows.get(table, ())))


def copy_rows(connection: Connection, table: Table, into: str, found: Sequence[Row]) -> None:
    """Copy rows of `table` into the table named `into`, which has its columns."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(into), columns)
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_COLUMN_TYPES[table])
        try:
            _check_integers(table, found)
            for row in found:
                copy.write_row(row)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise psycopg.DataError(f"{table.name}: a value has the wrong type: {error}") from error


def _check_integers(table: Table, found: Sequence[Row]) -> None:
    """Raise OverflowError for a number that psycopg would cut to its lowest bits."""
    for name, at in _AT[table].items():
        code = _INTEGERS.get(type(table.c[name].type))
        if code is not None:
            try:
                array(code, [row[at] or 0 for row in found])
            except OverflowError as error:
                raise OverflowError(f"{name}: {error}") from error


def _count(connection: Connection, verdicts: Sequence[Row]) -> None:
    """Add verdicts that are stored now to the tallies of their hours."""
    if not verdicts:
        return
    rows = {schema.verdict: verdicts}
    hours = _hours(_column(rows, schema.verdict, "trigger_time"))
    named = (_column(rows, schema.verdict, column.name) for column in schema.tally.primary_key if column.name != "hour")
    tallies: dict[tuple[Any, ...], list[float]] = {}
    for key, score in zip(zip(hours, *named, strict=True), _column(rows, schema.verdict, "score"), strict=True):
        tally = tallies.setdefault(key, [0, 0, 0.0, 0.0])
        tally[0] += 1
        if score is not None and math.isfinite(score):
            tally[1] += 1
            tally[2] += score
            tally[3] += score * score
    keys = [column.name for column in schema.tally.primary_key]
    sums = ["parts", "scored", "score_sum", "score_squares"]
    added = insert(schema.tally).values(
        # in one order: two stations' writers never wait for each other in a ring
        [dict(zip(keys + sums, (*key, *tallies[key]), strict=True)) for key in sorted(tallies)]
    )
    changed = {name: schema.tally.c[name] + added.excluded[name] for name in sums}
    connection.execute(added.on_conflict_do_update(index_elements=keys, set_=changed))


def _hours(times: Iterable[datetime]) -> Iterator[datetime]:
    hour = end = datetime.min.replace(tzinfo=UTC)
    for time in times:
        if not hour <= time < end:
            hour = time.replace(minute=0, second=0, microsecond=0)
            end = hour + timedelta(hours=1)
        yield hour


def _remember(connection: Connection, rows: Rows) -> None:
    """Widen the times in which each run, product, camera … was seen."""
    known: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for table, kind, column in _SEEN:
        times: defaultdict[str, list[datetime]] = defaultdict(list)
        for name, time in zip(_column(rows, table, column), _column(rows, table, "trigger_time"), strict=True):
            times[name].append(time)
        known |= {(kind, name): (min(found), max(found)) for name, found in times.items() if name}
    if not known:
        return
    added = insert(schema.seen).values(
        [
            {"kind": kind, "name": name, "first_time": first, "last_time": last}
            for (kind, name), (first, last) in sorted(known.items())
        ]
    )
    widened = {
        "first_time": func.least(schema.seen.c.first_time, added.excluded.first_time),
        "last_time": func.greatest(schema.seen.c.last_time, added.excluded.last_time),
    }
    connection.execute(added.on_conflict_do_update(index_elements=["kind", "name"], set_=widened))
