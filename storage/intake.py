"""One transaction of the writer: rows in, what is counted and known of them, and the journal's cursor behind them.

Rows go straight into their tables by COPY. Where one of them is stored already (records come at least once), all of
them are copied beside and only what is missing is taken over.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
_AT = {table: {name: index for index, name in enumerate(names)} for table, names in COLUMNS.items()}
_SEEN = (
    *((schema.verdict, name, name) for name in ("run", "station", "line", "product", "recipe")),
    (schema.view, "camera", "camera"),
    (schema.view, "bundle", "bundle_digest"),
)
_TALLIED = [_AT[schema.verdict][column.name] for column in schema.tally.primary_key if column.name != "hour"]


def take(connection: Connection, rows: Rows) -> int:
    """Store rows in a transaction that is open; return how many were stored already.

    Raise psycopg's UniqueViolation if any is: then the transaction is lost, and `take_missing` is the way.
    """
    _make_partitions(connection, rows)
    for table, found in rows.items():
        _copy(connection, table, table.name, found)
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
        _copy(connection, table, beside, found)
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
    wanted = {
        partitions.partition_of(table, row[_AT[table]["trigger_time"]])
        for table, found in rows.items()
        if table in partitions.WIDTHS
        for row in found
    }
    partitions.make(connection, wanted)


def _copy(connection: Connection, table: Table, into: str, found: Iterable[Row]) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(into), columns)
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_COLUMN_TYPES[table])
        for row in found:
            copy.write_row(row)


@dataclass
class _Tally:
    parts: int = 0
    scored: int = 0
    score_sum: float = 0.0
    score_squares: float = 0.0


def _count(connection: Connection, verdicts: Sequence[Row]) -> None:
    """Add verdicts that are stored now to the tallies of their hours."""
    at = _AT[schema.verdict]
    time_at, score_at = at["trigger_time"], at["score"]
    tallies: defaultdict[tuple[Any, ...], _Tally] = defaultdict(_Tally)
    for row in verdicts:
        hour = row[time_at].replace(minute=0, second=0, microsecond=0)
        tally = tallies[hour, *(row[index] for index in _TALLIED)]
        tally.parts += 1
        score = row[score_at]
        if score is not None and math.isfinite(score):
            tally.scored += 1
            tally.score_sum += score
            tally.score_squares += score * score
    if not tallies:
        return
    names = [column.name for column in schema.tally.primary_key]
    sums = ("parts", "scored", "score_sum", "score_squares")
    values = [
        {**dict(zip(names, key, strict=True)), **{name: getattr(tallies[key], name) for name in sums}}
        for key in sorted(tallies)  # in one order: two writers never wait for each other
    ]
    added = insert(schema.tally).values(values)
    changed = {name: schema.tally.c[name] + added.excluded[name] for name in sums}
    connection.execute(added.on_conflict_do_update(index_elements=names, set_=changed))


def _remember(connection: Connection, rows: Rows) -> None:
    """Widen the times in which each run, product, camera … was seen."""
    known: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for table, kind, column in _SEEN:
        at, time_at = _AT[table][column], _AT[table]["trigger_time"]
        for row in rows.get(table, ()):
            name, time = row[at], row[time_at]
            if name:
                first, last = known.get((kind, name), (time, time))
                known[kind, name] = (min(time, first), max(time, last))
    if not known:
        return
    values = [
        {"kind": kind, "name": name, "first_time": first, "last_time": last}
        for (kind, name), (first, last) in sorted(known.items())
    ]
    added = insert(schema.seen).values(values)
    times = {
        "first_time": func.least(schema.seen.c.first_time, added.excluded.first_time),
        "last_time": func.greatest(schema.seen.c.last_time, added.excluded.last_time),
    }
    connection.execute(added.on_conflict_do_update(index_elements=["kind", "name"], set_=times))
