"""Removal of parts from one partition: what stays is written beside it, and takes its place in one transaction.

DELETE would give no space back for weeks, and TRUNCATE would keep readers of the partition out for as long as it takes
to write the rest anew. This way they wait for milliseconds, the space comes back with the commit, and a kill at any
moment leaves the partition as it was. While the rest is written nothing is locked; what was recorded, reviewed, put on
hold or picked meanwhile is taken over at the end, while nobody can add to it. No lock is waited for longer than
`_LOCK_MS`, since others would wait behind: then the attempt is made again.

A partition's comment says what was removed from it, so that it need not be read again after every start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from threading import Event
from typing import NamedTuple

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError

from config.errors import StoreError
from storage import partitions, schema
from storage.partitions import Partition
from storage.retention.plan import Kind, Note, Removal

_LOCK_MS = 200
_ATTEMPTS = 30
_PAUSE_S = 1.0  # between attempts: others go first
_ROW_BYTES = 200  # of a row, about, beside an image or a map
_LOCKED = {"55P03", "40P01"}  # lock not available, deadlock detected
_CLASS = "CASE WHEN v.challenge THEN 'CHALLENGE' ELSE v.verdict END"
_SAME_PART = (
    "v.part_id = t.part_id AND v.trigger_time = t.trigger_time AND v.trigger_time >= :start AND v.trigger_time < :end"
)
_PROTECTED = "SELECT part_id FROM review UNION SELECT part_id FROM hold UNION SELECT part_id FROM pick"
_CONTENT = {  # bytes in the database and in a store
    schema.image: (
        "CASE WHEN t.place IS NULL THEN t.size_bytes ELSE 0 END",
        "CASE WHEN t.place IS NULL THEN 0 ELSE t.size_bytes END",
    ),
    schema.view: ("coalesce(octet_length(t.map), 0)", "0"),
}

Beside = Callable[[Connection, str], None]  # what is done to the rest before it takes the partition's place
AtLast = Callable[[Connection, "Removed"], None]  # what is done just before the commit


class InUseError(StoreError):
    """Somebody has been reading or writing a partition all the time."""


class Weight(NamedTuple):
    """What a class (None: rows without a verdict) has in a partition, and how much of that would go."""

    name: str | None
    rows: int
    content_bytes: int  # of images or maps
    protected_rows: int  # reviewed, on hold or picked
    going_rows: int
    going_bytes: int  # of images or maps in the database
    going_placed_bytes: int  # of images in a store


@dataclass
class Removed:
    """What is gone from a partition."""

    partition: Partition
    classes: Sequence[str]
    rows: int = 0
    images: int = 0
    maps: int = 0
    freed_bytes: int = 0  # in the database

    def said(self) -> dict[str, object]:
        """Return it as an audit entry says it."""
        counts = {"rows": self.rows, "images": self.images, "maps": self.maps, "freed_bytes": self.freed_bytes}
        return {"classes": list(self.classes), **{name: count for name, count in counts.items() if count}}


def weigh(connection: Connection, removal: Removal, partition: Partition, station: str) -> list[Weight]:
    """Return what each class has in a partition and what of it `removal` would take, in a transaction that is open."""
    terms = _terms(removal, partition, station)
    inside, placed = _CONTENT.get(partition.table, ("0", "0"))
    going = f"{terms.going} AND t.map IS NOT NULL" if removal.kind is Kind.MAPS else terms.going
    found = connection.execute(
        text(
            f"SELECT {_CLASS}, count(*), sum({inside} + {placed}), count(k.part_id), "  # noqa: S608 - our own names
            f"count(*) FILTER (WHERE {going}), coalesce(sum({inside}) FILTER (WHERE {going}), 0), "
            f"coalesce(sum({placed}) FILTER (WHERE {going}), 0) FROM {terms.source} GROUP BY 1"
        ),
        terms.values,
    )
    return [Weight(name, *map(int, numbers)) for name, *numbers in found]


def concerns(connection: Connection, removal: Removal, partition: Partition, station: str) -> bool:
    """Tell whether a partition has anything that would go, or nothing at all, in a transaction that is open."""
    terms = _terms(removal, partition, station)
    found = connection.execute(
        text(
            f"SELECT EXISTS (SELECT FROM {terms.source} WHERE {terms.going}) "  # noqa: S608 - our own names
            f'OR NOT EXISTS (SELECT FROM "{partition.name}")'
        ),
        terms.values,
    )
    return bool(found.scalar_one())


def share(removal: Removal, weights: Iterable[Weight]) -> float:
    """Return which share of a partition would go; of an empty one all, where no class is left out."""
    weights = list(weights)
    row_bytes = 1 if removal.kind is Kind.ROWS else _ROW_BYTES
    whole = going = 0
    for weight in weights:
        whole += weight.rows * row_bytes
        going += weight.going_rows * row_bytes if removal.kind is not Kind.MAPS else 0
        if removal.kind is not Kind.ROWS:
            whole += weight.content_bytes
            going += weight.going_bytes + weight.going_placed_bytes
    if whole == 0:
        return float(removal.of_all and removal.kind is not Kind.MAPS)
    return going / whole


def remove(
    connection: Connection,
    removal: Removal,
    partition: Partition,
    station: str,
    *,
    stopping: Event,
    today: date,
    beside: Beside | None = None,
    at_last: AtLast | None = None,
) -> Removed:
    """Remove from a partition what `removal` says, parts that people keep excepted, in a transaction of its own.

    `at_last` may be called again after an attempt that came to nothing. Raise InUseError where the partition is in use
    all the time, or it is time to stop; then nothing has changed.
    """
    with connection.begin():
        removed = Removed(partition, sorted(removal.before))
        terms = _terms(removal, partition, station)
        rest = partitions.make_successor(connection, partition)
        _copy(connection, removal, partition, rest, terms)
        if beside is not None:
            beside(connection, rest)
        for attempt in range(_ATTEMPTS):
            try:
                with connection.begin_nested():
                    _settle(connection, removal, partition, rest, removed, today)
                    if at_last is not None:
                        at_last(connection, removed)
                break
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _LOCKED:
                    raise
                if attempt == _ATTEMPTS - 1 or stopping.wait(_PAUSE_S):
                    raise InUseError(f"{partition.name} is in use") from error
    return removed


def notes(connection: Connection) -> dict[str, Note]:
    """Return what the partitions say of themselves, by their names."""
    found = connection.execute(
        text(
            "SELECT relname, obj_description(child.oid, 'pg_class') FROM pg_inherits "
            "JOIN pg_class child ON child.oid = inhrelid WHERE child.relnamespace = current_schema()::regnamespace"
        )
    )
    said = {name: _read_note(comment) for name, comment in found if comment}
    return {name: note for name, note in said.items() if note is not None}


def write_note(connection: Connection, partition: Partition, note: Note) -> None:
    """Let a partition say what was removed from it."""
    comment = json.dumps({"removed": sorted(note.classes), "on": note.on.isoformat()})
    connection.exec_driver_sql(f"COMMENT ON TABLE \"{partition.name}\" IS '{comment}'")


def _read_note(comment: str) -> Note | None:
    try:
        said = json.loads(comment)
        return Note(frozenset(said["removed"]), date.fromisoformat(said["on"]))
    except (ValueError, KeyError, TypeError):
        return None  # somebody else's comment


class _Terms(NamedTuple):
    """The SQL of a removal."""

    row: str  # alias of the partition
    source: str  # with the rows' verdicts as v, and what is protected of them as k
    going: str  # condition
    values: dict[str, object]


def _terms(removal: Removal, partition: Partition, station: str) -> _Terms:
    table, name = partition.table, partition.name
    row, verdicts, recorded = "t", f"LEFT JOIN verdict v ON {_SAME_PART}", "v.recorded_at"
    if table is schema.verdict:
        row, verdicts = "v", ""
    elif "recorded_at" in table.c:
        recorded = "greatest(v.recorded_at, t.recorded_at)"
    values: dict[str, object] = {"station": station}
    if table is not schema.verdict:
        values |= {"start": partition.start, "end": partition.end}
    classes = []
    for number, (one, before) in enumerate(removal.before.items()):
        classes.append(f"{_CLASS} = '{one}' AND {recorded} < :before_{number}")
        values[f"before_{number}"] = before
    going = f"v.station = :station AND ({' OR '.join(classes) or 'false'})"
    if removal.of_all and table is not schema.verdict:
        going = (
            f"({going} OR v.part_id IS NULL AND starts_with(t.part_id, :prefix) "
            f"AND coalesce({recorded}, '-infinity') < :before_all)"
        )
        values |= {"prefix": f"{station}-", "before_all": min(removal.before.values())}
    source = f'"{name}" {row} {verdicts} LEFT JOIN ({_PROTECTED}) k ON k.part_id = {row}.part_id'
    return _Terms(row, source, f"(k.part_id IS NULL AND {going})", values)


def _copy(connection: Connection, removal: Removal, partition: Partition, rest: str, terms: _Terms) -> None:
    """Write what stays into the table that will take the partition's place."""
    names = [column.name for column in partition.table.columns]
    chosen, condition = [f"{terms.row}.{name}" for name in names], f"WHERE ({terms.going}) IS NOT TRUE"
    if removal.kind is Kind.MAPS:
        chosen[names.index("map")] = f"CASE WHEN {terms.going} THEN NULL ELSE t.map END"
        condition = ""
    statement = (
        f'INSERT INTO "{rest}" ({", ".join(names)}) SELECT {", ".join(chosen)} '  # noqa: S608 - our own names
        f"FROM {terms.source} {condition}"
    )
    connection.execute(text(statement), terms.values)


def _settle(
    connection: Connection, removal: Removal, partition: Partition, rest: str, removed: Removed, today: date
) -> None:
    """Take over what was added meanwhile, and let the rest take the partition's place."""
    connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_MS}"))
    connection.execute(text("LOCK TABLE review, hold, pick IN SHARE MODE"))
    connection.execute(text(f'LOCK TABLE "{partition.name}" IN SHARE MODE'))
    _take_over(connection, removal, partition, rest)
    before, after = (_size(connection, partition.table, name) for name in (partition.name, rest))
    gone = before.rows - after.rows
    removed.images, removed.rows = (gone, 0) if partition.table is schema.image else (0, gone)
    removed.maps = before.maps - after.maps
    removed.freed_bytes = before.size_bytes - after.size_bytes
    if after.rows == 0:
        removed.freed_bytes = before.size_bytes
        connection.execute(text(f'DROP TABLE "{rest}"'))
        partitions.drop(connection, partition)
        return
    note = notes(connection).get(partition.name)
    partitions.replace(connection, partition, rest)
    if partition == removal.partition:
        note = Note(frozenset(removal.before) | (note.classes if note else frozenset()), today)
    if note is not None:
        write_note(connection, partition, note)


def _take_over(connection: Connection, removal: Removal, partition: Partition, rest: str) -> None:
    """Add what was recorded, reviewed, put on hold or picked since the copy was begun, if it is missing."""
    name, table = partition.name, partition.table
    key = ", ".join(column.name for column in table.primary_key)
    conflict = "DO NOTHING"
    if removal.kind is Kind.MAPS:
        conflict = f'({key}) DO UPDATE SET map = excluded.map WHERE "{rest}".map IS NULL AND excluded.map IS NOT NULL'
    lately = "SELECT part_id FROM verdict WHERE trigger_time >= :start AND trigger_time < :end AND recorded_at >= :late"
    if "recorded_at" in table.c:
        lately += f' UNION SELECT part_id FROM "{name}" WHERE recorded_at >= :late'  # noqa: S608 - our own names
    columns = ", ".join(column.name for column in table.columns)
    connection.execute(
        text(
            f'INSERT INTO "{rest}" ({columns}) SELECT {columns} FROM "{name}" '  # noqa: S608 - our own names
            f"JOIN ({_PROTECTED} UNION {lately}) kept USING (part_id) ON CONFLICT {conflict}"
        ),
        {"start": partition.start, "end": partition.end, "late": max(removal.before.values())},
    )


class _Size(NamedTuple):
    rows: int
    maps: int
    size_bytes: int


def _size(connection: Connection, table: Table, name: str) -> _Size:
    maps = "count(map)" if table is schema.view else "0"
    size = "pg_total_relation_size(CAST(:name AS regclass))"
    statement = f'SELECT count(*), {maps}, {size} FROM "{name}"'  # noqa: S608 - our own names
    return _Size(*connection.execute(text(statement), {"name": name}).one())
