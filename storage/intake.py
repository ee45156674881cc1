"""One transaction of the writer: rows in, what is counted and known of them, and the journal's cursor behind them.

Rows go straight into their tables by COPY. Where one of them is stored already (records come at least once), all of
them are copied beside and only what is missing is taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Table, func, text
from sqlalchemy.dialects.postgresql import insert

from storage import partitions, schema
from storage.incoming import COUNTED, JUDGED, LOOKS_SUMS, SUMS, VIEW_SUMS, VIEWED, Incoming, Tallies, ViewTallies
from storage.record import Position
from storage.rows import COLUMNS, EPOCH

_MICROSECOND = timedelta(microseconds=1)
_COUNTED = {schema.verdict: ("part_id", *COUNTED), schema.view: ("part_id", "trigger_time", *VIEWED)}


def take(connection: Connection, incoming: Incoming) -> int:
    """Store rows in a transaction that is open; return how many were stored already.

    Raise psycopg's UniqueViolation if any is: then the transaction is lost, and `take_missing` is the way.
    """
    _make_partitions(connection, incoming)
    for table in incoming.counts:
        _copy(connection, incoming, table, table.name)
    _add(connection, schema.tally, incoming.tallies.rows(), SUMS)
    _add(connection, schema.view_tally, incoming.views.rows(), VIEW_SUMS)
    _add(connection, schema.appearance, incoming.appearances.rows(), LOOKS_SUMS)
    _remember(connection, incoming)
    return 0


def take_missing(connection: Connection, incoming: Incoming) -> int:
    """Store those rows that are not stored yet, in a transaction that is open; return how many there were already."""
    _make_partitions(connection, incoming)
    known = 0
    tallies, views = Tallies(), ViewTallies()
    judged: dict[str, tuple[Any, ...]] = {}  # what is stored now, by part
    for table, count in incoming.counts.items():
        beside = f"incoming_{table.name}"
        connection.execute(
            text(f"CREATE TEMPORARY TABLE {beside} (LIKE {table.name} INCLUDING DEFAULTS) ON COMMIT DROP")
        )
        _copy(connection, incoming, table, beside)
        counted = ", ".join(_COUNTED.get(table, ("1",)))
        fresh = connection.execute(
            text(
                f"INSERT INTO {table.name} SELECT * FROM {beside} ON CONFLICT DO NOTHING "  # noqa: S608 - our own names
                f"RETURNING {counted}"
            )
        ).all()
        known += count - len(fresh)
        if table is schema.verdict:
            for part_id, time, *names in fresh:
                tallies.add((time - EPOCH) // _MICROSECOND, *names)
                judged[part_id] = tuple(names[-len(JUDGED) - 1 : -1])  # the last one is the verdict
        elif table is schema.view:
            for part_id, time, *names in fresh:
                if part_id in judged:
                    views.count((time - EPOCH) // _MICROSECOND, judged[part_id], *names)
    _add(connection, schema.tally, tallies.rows(), SUMS)
    _add(connection, schema.view_tally, views.rows(), VIEW_SUMS)
    _add(connection, schema.appearance, incoming.appearances.rows(), LOOKS_SUMS)
    _remember(connection, incoming)
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


def _make_partitions(connection: Connection, incoming: Incoming) -> None:
    partitions.hold(connection)
    partitions.make(connection, incoming.partitions())


def copy_statement(table: Table, into: str) -> sql.Composed:
    """Return what copies rows of `table` into the table named `into`, which has its columns."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table]))
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(into), columns)


def _copy(connection: Connection, incoming: Incoming, table: Table, into: str) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
    with driver.cursor() as cursor, cursor.copy(copy_statement(table, into)) as copy:
        for content in incoming.content(table):
            copy.write(content)


def _add(connection: Connection, table: Table, rows: list[dict[str, Any]], sums: Sequence[str]) -> None:
    """Add to the sums of the rows that a table has, or make these."""
    if rows:
        added = insert(table)
        changed = {name: table.c[name] + added.excluded[name] for name in sums}
        keys = list(table.primary_key)
        connection.execute(added.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def _remember(connection: Connection, incoming: Incoming) -> None:
    """Widen the times in which each run, product, camera … was seen."""
    rows = incoming.seen()
    if rows:
        added = insert(schema.seen)
        widened = {
            "first_time": func.least(schema.seen.c.first_time, added.excluded.first_time),
            "last_time": func.greatest(schema.seen.c.last_time, added.excluded.last_time),
        }
        keys = list(schema.seen.primary_key)
        connection.execute(added.on_conflict_do_update(index_elements=keys, set_=widened), rows)
