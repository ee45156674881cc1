"""The database's rows, table by table, as PostgreSQL's binary COPY gives and takes them.

Tables are made by the migrations and partitions as the backup describes them, filled before they have indexes. Nothing
that a backup says is ever taken for SQL: names are quoted, times are values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, text

from storage.schema import metadata

_BOUNDS = re.compile(r"FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)")

_TABLES = """
SELECT child.relname AS name, parent.relname AS parent, pg_get_expr(child.relpartbound, child.oid) AS bounds,
    pg_table_size(child.oid) AS size_bytes,
    ARRAY(SELECT attname::text FROM pg_attribute
        WHERE attrelid = child.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum) AS columns,
    ARRAY(SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = child.oid AND indisprimary ORDER BY array_position(indkey, attnum)) AS key
FROM pg_class child LEFT JOIN pg_inherits ON inhrelid = child.oid LEFT JOIN pg_class parent ON parent.oid = inhparent
WHERE child.relkind = 'r' AND child.relnamespace = current_schema()::regnamespace AND child.relname <> 'alembic_version'
ORDER BY 1
"""


class Table(BaseModel):
    """A table that holds rows; of a partition, the rows of `parent` from `start` on, up to `end`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    parent: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    size_bytes: int = 0  # in the database, when it was copied


def lock(connection: Connection) -> None:
    """Keep Andon's tables, and all partitions that there are, until the transaction ends; writers go on."""
    names = ", ".join(f'"{name}"' for name in metadata.tables)
    connection.execute(text(f"LOCK TABLE {names} IN ACCESS SHARE MODE"))


def listed(connection: Connection) -> tuple[list[Table], list[str]]:
    """Return Andon's tables that hold rows, and the names of others in the same schema."""
    found, others = [], []
    connection.execute(text("SET LOCAL timezone = 'UTC'"))  # bounds are shown in it
    for row in connection.execute(text(_TABLES)).mappings():
        if (row["parent"] or row["name"]) not in metadata.tables:
            others.append(row["name"])
            continue
        bounds = _BOUNDS.fullmatch(row["bounds"] or "")
        start, end = map(datetime.fromisoformat, bounds.groups()) if bounds else (None, None)
        found.append(
            Table(
                name=row["name"],
                columns=tuple(row["columns"]),
                key=tuple(row["key"]),
                parent=row["parent"],
                start=start,
                end=end,
                size_bytes=row["size_bytes"],
            )
        )
    return found, others


def sequences(connection: Connection) -> dict[str, int]:
    """Return the last number that each sequence has given."""
    found = connection.execute(
        text("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = current_schema()")
    )
    return {name: last for name, last in found if last is not None}


def dump(connection: Connection, table: Table, piece_bytes: int) -> Iterator[bytes]:
    """Yield a table's rows as binary COPY, in pieces of `piece_bytes` (the last one is shorter)."""
    statement = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT BINARY)").format(*_named(table))
    piece = bytearray()
    with _driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        for row in copy:
            piece += row
            while len(piece) >= piece_bytes:
                yield bytes(piece[:piece_bytes])
                del piece[:piece_bytes]
    yield bytes(piece)


def load(connection: Connection, table: Table, pieces: Iterable[bytes]) -> int:
    """Fill a table that is empty, or a partition that is not there yet; return how many rows it has got."""
    driver = _driver(connection)
    name, columns = _named(table)
    frozen = sql.SQL("")
    with driver.cursor() as cursor:
        if table.parent:
            parent = sql.Identifier(table.parent)
            like = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES)")
            cursor.execute(like.format(name, parent))
            frozen = sql.SQL(", FREEZE")  # made in this transaction: its rows need no second look
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY{})").format(name, columns, frozen)) as copy:
            for piece in pieces:
                copy.write(piece)
        rows = cursor.rowcount
        if table.parent:
            key = sql.SQL(", ").join(map(sql.Identifier, table.key))
            cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(name, key))
            attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")
            bounds = (sql.Literal(table.start), sql.Literal(table.end))
            cursor.execute(attach.format(parent, name, *bounds))
    return rows


def go_on(connection: Connection, numbers: dict[str, int]) -> None:
    """Let each sequence go on after its number."""
    for name, last in sorted(numbers.items()):
        connection.execute(
            text("SELECT setval(format('%I', CAST(:name AS text))::regclass, :last)"), {"name": name, "last": last}
        )


def _named(table: Table) -> tuple[sql.Identifier, sql.Composed]:
    return sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))


def _driver(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
    return driver
