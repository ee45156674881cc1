"""Partitions by the trigger's time: one table for each week, of images for each day; made before they are needed.

They are named after their first day (UTC), as `verdict_20261116`. There is no default partition: the writer makes the
one that a record needs, however wrong its clock was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Table, text

from storage import schema

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
WIDTHS = {
    schema.verdict: WEEK,
    schema.view: WEEK,
    schema.defect: WEEK,
    schema.gate_report: WEEK,
    schema.image: DAY,
}
AHEAD = timedelta(weeks=2)
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_LOCK = 0x616E646F70  # held shared while rows go in, alone while a partition comes or goes
_TABLES = {table.name: table for table in WIDTHS}


class Partition(NamedTuple):
    """The rows of `table` from `start` on, up to `end`."""

    table: Table
    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """Return the name of its table."""
        return f"{self.table.name}_{self.start:%Y%m%d}"


def partition_of(table: Table, time: datetime) -> Partition:
    """Return the partition that rows of `time` belong to; years from 1970 to 9998."""
    width = WIDTHS[table]
    start = _MONDAY + (time - _MONDAY) // width * width
    return Partition(table, start, start + width)


def present(connection: Connection) -> set[Partition]:
    """Return the partitions that there are."""
    found = connection.execute(
        text(
            "SELECT parent.relname AS parent, child.relname AS child FROM pg_inherits "
            "JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid "
            "WHERE parent.relkind = 'p' AND parent.relnamespace = current_schema()::regnamespace"
        )
    )
    partitions = set()
    for parent, child in found:
        start = datetime.strptime(child.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)
        partitions.add(Partition(_TABLES[parent], start, start + WIDTHS[_TABLES[parent]]))
    return partitions


def hold(connection: Connection) -> None:
    """Let no partition go until this transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _LOCK})


def hold_alone(connection: Connection) -> None:
    """Let nobody write, until this transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def make(connection: Connection, wanted: Iterable[Partition]) -> list[Partition]:
    """Make the partitions that are missing, and return them; readers and other writers go on."""
    missing = sorted(set(wanted) - present(connection), key=lambda partition: partition.name)
    if not missing:
        return []
    connection.execute(text("LOCK TABLE journal_cursor IN SHARE UPDATE EXCLUSIVE MODE"))  # one maker at a time
    missing = [partition for partition in missing if partition not in present(connection)]
    for partition in missing:
        # ATTACH does without the lock that keeps readers of the whole table out, which PARTITION OF takes.
        _create(connection, partition, partition.name)
        _attach(connection, partition)
    return missing


def make_successor(connection: Connection, partition: Partition) -> str:
    """Make an empty table that can take a partition's place, and return its name."""
    name = f"{partition.name}_next"
    start, end = partition.start.isoformat(), partition.end.isoformat()
    # with this known of every row, none need be read again while the table waits for ATTACH
    within = f"CONSTRAINT within CHECK (trigger_time >= '{start}' AND trigger_time < '{end}')"
    _create(connection, partition, name, within)
    return name


def replace(connection: Connection, partition: Partition, successor: str) -> None:
    """Let a successor take a partition's place; nobody can read or write the whole table until the transaction ends."""
    _remove(connection, partition)
    connection.execute(text(f'ALTER TABLE "{successor}" RENAME TO "{partition.name}"'))
    _attach(connection, partition)
    connection.execute(text(f'ALTER TABLE "{partition.name}" DROP CONSTRAINT within'))


def drop(connection: Connection, partition: Partition) -> None:
    """Drop a partition with all that is in it; nobody can read or write the whole table until the transaction ends."""
    hold_alone(connection)
    _remove(connection, partition)


def _create(connection: Connection, partition: Partition, name: str, *constraints: str) -> None:
    key = ", ".join(column.name for column in partition.table.primary_key)
    clauses = ", ".join((f'LIKE "{partition.table.name}" INCLUDING ALL', f"PRIMARY KEY ({key})", *constraints))
    connection.execute(text(f'CREATE TABLE "{name}" ({clauses})'))


def _attach(connection: Connection, partition: Partition) -> None:
    bounds = f"FROM ('{partition.start.isoformat()}') TO ('{partition.end.isoformat()}')"
    connection.execute(
        text(f'ALTER TABLE "{partition.table.name}" ATTACH PARTITION "{partition.name}" FOR VALUES {bounds}')
    )


def _remove(connection: Connection, partition: Partition) -> None:
    connection.execute(text(f'ALTER TABLE "{partition.table.name}" DETACH PARTITION "{partition.name}"'))
    connection.execute(text(f'DROP TABLE "{partition.name}"'))


def make_ahead(connection: Connection, now: datetime) -> list[Partition]:
    """Make the partitions of the present and of the days to come."""
    return make(connection, (part for table, width in WIDTHS.items() for part in _spanning(table, width, now)))


def _spanning(table: Table, width: timedelta, now: datetime) -> Iterable[Partition]:
    time = now
    while time <= now + AHEAD:
        yield partition_of(table, time)
        time += width
