"""The writer: a thread that takes records from the journal to PostgreSQL, in order, each once.

One transaction copies a batch into temporary tables, inserts from there what is not stored yet, and moves the
journal's cursor. Whatever is killed, the next connection reads the cursor and goes on from exactly there. What
PostgreSQL refuses is found by halving the batch and kept aside; an absent server is asked again until it is back.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

import psycopg
from psycopg import sql
from sqlalchemy import (
    URL,
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
    create_engine,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from config.errors import InputError, StoreError
from config.log import Condition, logger
from config.messages import decode
from storage.journal import Journal
from storage.migrate import check
from storage.record import Position, Record
from storage.rows import COLUMNS, Row, rows
from storage.schema import journal_cursor

_BATCH_BYTES = 4 * 1024 * 1024
_PAUSE_S = 0.05  # between transactions that are not full: a slow line need not cost a commit for every part
_IDLE_S = 1.0  # then the server is asked whether it is there
_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_HANGS_NS = 5_000_000_000
_CONNECT = {
    "connect_timeout": 3,
    "application_name": "andon storage",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_REFUSALS = {"22", "23", "54"}  # SQLSTATE classes: data exception, integrity violation, program limit exceeded
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


class PostgresWriter(Thread):
    """Drain the journal into the database at `url`."""

    def __init__(self, url: URL, journal: Journal, counters: Counter[str]) -> None:
        super().__init__(name="postgres", daemon=True)
        self._engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
        self._journal = journal
        self._counters = counters
        self._down = Condition("not_written", counters)
        self._wake = Event()
        self._stopping = Event()
        self._asked_ns: int | None = None  # since when PostgreSQL owes an answer
        self._problem: str | None = "PostgreSQL has not been reached yet"
        self._position = journal.resume(None)
        self.tried = Event()  # the first attempt has ended, well or not

    @property
    def problem(self) -> str | None:
        """Say why nothing is being written; None while all is well."""
        asked_ns = self._asked_ns
        if asked_ns is not None and time.monotonic_ns() - asked_ns > _HANGS_NS:
            return "PostgreSQL does not answer"
        return self._problem

    @property
    def backlog_bytes(self) -> int:
        """How much of the journal PostgreSQL does not have yet."""
        return self._journal.behind_bytes(self._position)

    def wake(self) -> None:
        """Say that there is something new in the journal."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Write what there is, but take no longer than `timeout_s`; the rest is written after the next start."""
        self._stopping.set()
        self._wake.set()
        self.join(timeout_s)
        if self.is_alive():
            logger().warning("left records in the journal for the next start", bytes=self.backlog_bytes)

    def run(self) -> None:
        """Connect, drain, and again."""
        failures = 0
        while True:
            try:
                with _translated(), self._engine.connect() as connection:
                    self._begin(connection)
                    failures = 0
                    self._drain(connection)
                    return
            except StoreError as error:
                self._problem = str(error)
                self._down.occur(error=str(error))
            self._asked_ns = None
            self.tried.set()
            if self._stopping.wait(_RETRY_S[min(failures, len(_RETRY_S) - 1)]):
                return
            failures += 1

    def _begin(self, connection: Connection) -> None:
        """Find out where the last transaction ended and make the tables that rows are copied into."""
        self._asked_ns = time.monotonic_ns()
        with connection.begin():
            check(connection)
            connection.execute(text("SET statement_timeout = '60s'"))
            for table in COLUMNS:
                # of this session: emptied by every commit, gone with the connection
                connection.execute(
                    text(
                        f"CREATE TEMPORARY TABLE {_incoming(table)} (LIKE {table.name} INCLUDING DEFAULTS) "
                        "ON COMMIT DELETE ROWS"
                    )
                )
            found = connection.execute(
                select(journal_cursor.c.segment, journal_cursor.c.position).where(
                    journal_cursor.c.journal == self._journal.identity
                )
            ).one_or_none()
        self._asked_ns = None
        self._position = self._journal.resume(None if found is None else Position(*found))
        self._problem = None
        self._down.end(backlog_bytes=self.backlog_bytes)
        self.tried.set()

    def _drain(self, connection: Connection) -> None:
        """Write until told to stop and nothing is left."""
        while True:
            batch = self._journal.read(self._position, _BATCH_BYTES)
            if batch.end != self._position:
                self._write(connection, batch.records, batch.end)
                self._journal.release(self._position)
            elif self._stopping.is_set():
                return
            elif not self._wake.wait(_IDLE_S):
                self._ask(connection)
            self._wake.clear()
            if self.backlog_bytes < _BATCH_BYTES:
                self._stopping.wait(_PAUSE_S)

    def _ask(self, connection: Connection) -> None:
        """Find out whether the server is still there."""
        self._asked_ns = time.monotonic_ns()
        with connection.begin():
            connection.execute(select(1))
        self._asked_ns = None

    def _write(self, connection: Connection, records: Sequence[Record], end: Position) -> None:
        """Write records, and the cursor after each part of them; keep aside what is refused."""
        try:
            self._transact(connection, records, end)
        except _RefusedError as error:
            if len(records) == 1:
                self._journal.refuse(records[0], str(error))
                self._transact(connection, [], end)
                return
            middle = len(records) // 2
            self._write(connection, records[:middle], records[middle - 1].end)
            self._write(connection, records[middle:], end)

    def _transact(self, connection: Connection, records: Sequence[Record], end: Position) -> None:
        incoming = self._rows(records)
        self._asked_ns = time.monotonic_ns()
        with _translated(), connection.begin():
            fresh = sum(_copy(connection, table, found) for table, found in incoming.items())
            moved = insert(journal_cursor).values(
                journal=self._journal.identity, segment=end.segment, position=end.offset
            )
            connection.execute(
                moved.on_conflict_do_update(
                    index_elements=[journal_cursor.c.journal],
                    set_={"segment": end.segment, "position": end.offset, "updated_at": func.now()},
                )
            )
        self._asked_ns = None
        self._position = end
        self._counters["written"] += len(records)
        self._counters["rows_already_stored"] += sum(map(len, incoming.values())) - fresh

    def _rows(self, records: Sequence[Record]) -> dict[Table, list[Row]]:
        found: defaultdict[Table, list[Row]] = defaultdict(list)
        for record in records:
            try:
                made = list(rows(*decode(record.parts)))
            except InputError as error:
                self._journal.refuse(record, str(error))
                continue
            for table, row in made:
                found[table].append(row)
        return found


class _RefusedError(Exception):
    """PostgreSQL does not take these rows and never will."""


def _incoming(table: Table) -> str:
    return f"incoming_{table.name}"


def _copy(connection: Connection, table: Table, found: Sequence[Row]) -> int:
    """Copy rows into the temporary table, and from there what is not stored yet; return how many that were."""
    names = COLUMNS[table]
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
    target, incoming = sql.Identifier(table.name), sql.Identifier(_incoming(table))
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    with driver.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(incoming, columns)) as copy:
            copy.set_types([_TYPES[type(table.c[name].type)] for name in names])
            for row in found:
                copy.write_row(row)
        cursor.execute(sql.SQL("INSERT INTO {} SELECT * FROM {} ON CONFLICT DO NOTHING").format(target, incoming))
        return cursor.rowcount


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours: rows that are refused, or a server that does not do its part."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        lines = str(original).strip().splitlines() or [type(original).__name__]
        state = original.sqlstate if isinstance(original, psycopg.Error) else None
        if (state or "")[:2] in _REFUSALS or (state is None and isinstance(original, psycopg.DataError)):
            raise _RefusedError(lines[0]) from error
        raise StoreError(f"PostgreSQL: {lines[0]}") from error
