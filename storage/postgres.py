"""The writer: a thread that takes records from the journal to PostgreSQL, in order, each once.

One transaction stores a batch (`storage/intake.py`) and moves the journal's cursor. Whatever is killed, the next
connection reads the cursor and goes on from exactly there. What PostgreSQL refuses is found by halving the batch and
kept aside; an absent server is asked again until it is back. While a transaction runs, the next batch is made ready.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from sqlalchemy import URL, Connection, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from config.errors import InputError, StoreError
from config.log import Condition, logger
from storage import intake, partitions
from storage.failures import reason
from storage.incoming import Incoming
from storage.journal import Journal
from storage.migrate import check
from storage.record import Position, Record
from storage.rows import COLUMNS, Made, moment, rows
from storage.schema import image, journal_cursor

if TYPE_CHECKING:
    from storage.store import Store

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
_STORED_ALREADY = "23505"  # unique violation


class _Batch(NamedTuple):
    """What is written in one transaction: records, what becomes of them, and the position after them."""

    records: Sequence[Record]
    incoming: Incoming
    end: Position


class PostgresWriter(Thread):
    """Drain the journal into the database at `url`, and its images into `store` if there is one."""

    def __init__(self, url: URL, journal: Journal, store: Store | None, counters: Counter[str]) -> None:
        super().__init__(name="postgres", daemon=True)
        self._engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
        self._journal = journal
        self._store = store
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

    @property
    def backlog_s(self) -> float:
        """How long the oldest record has waited that PostgreSQL does not have yet."""
        return self._journal.behind_s(self._position)

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
        """Find out where the last transaction ended."""
        self._asked_ns = time.monotonic_ns()
        with connection.begin():
            check(connection)
            connection.execute(text("SET statement_timeout = '60s'"))
            partitions.make_ahead(connection, datetime.now(UTC))
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
        """Write until told to stop and nothing is left; a full batch has its successor made ready meanwhile."""
        ahead: Future[_Batch] | None = None
        with ThreadPoolExecutor(1, "ready") as beside:
            while True:
                batch = ahead.result() if ahead else self._prepare(self._position)
                behind = self._journal.behind_bytes(batch.end) >= _BATCH_BYTES
                ahead = beside.submit(self._prepare, batch.end) if behind else None
                if batch.end != self._position:
                    self._write(connection, batch)
                    self._journal.release(self._position)
                elif self._stopping.is_set():
                    return
                elif not self._wake.wait(_IDLE_S):
                    self._ask(connection)
                self._wake.clear()
                if not behind:
                    self._stopping.wait(_PAUSE_S)

    def _prepare(self, start: Position) -> _Batch:
        """Read what follows `start` and make it ready."""
        batch = self._journal.read(start, _BATCH_BYTES)
        return self._made(batch.records, batch.end)

    def _made(self, records: Sequence[Record], end: Position) -> _Batch:
        """Make rows of records, bring their images where they belong, and keep aside what is no record of ours."""
        incoming = Incoming()
        taken: list[Record] = []
        placing: list[Made] = []
        for record in records:
            try:
                made = rows(record.parts, record.start.segment << 32 | record.start.offset)
                if self._store is not None and made[0][0] is image:
                    placing.append(made)
                else:
                    incoming.add(made)
                taken.append(record)
            except InputError as error:
                self._journal.refuse(record, str(error))
        if placing and self._store is not None:
            for made in _placed(placing, self._store):
                incoming.add(made)
        return _Batch(taken, incoming, end)

    def _ask(self, connection: Connection) -> None:
        """Find out whether the server is still there."""
        self._asked_ns = time.monotonic_ns()
        with connection.begin():
            connection.execute(select(1))
        self._asked_ns = None

    def _write(self, connection: Connection, batch: _Batch) -> None:
        """Write records, and the cursor after each part of them; keep aside what is refused."""
        try:
            self._transact(connection, batch)
        except _RefusedError as error:
            records = batch.records
            if len(records) == 1:
                self._journal.refuse(records[0], str(error))
                self._transact(connection, _Batch([], Incoming(), batch.end))
                return
            middle = len(records) // 2
            self._write(connection, self._made(records[:middle], records[middle - 1].end))
            self._write(connection, self._made(records[middle:], batch.end))

    def _transact(self, connection: Connection, batch: _Batch) -> None:
        self._asked_ns = time.monotonic_ns()
        try:
            with _translated(), connection.begin():
                known = intake.take(connection, batch.incoming)
                intake.move_cursor(connection, self._journal.identity, batch.end)
        except _StoredAlreadyError:
            with _translated(), connection.begin():
                known = intake.take_missing(connection, batch.incoming)
                intake.move_cursor(connection, self._journal.identity, batch.end)
        self._asked_ns = None
        self._position = batch.end
        self._counters["written"] += len(batch.records)
        self._counters["rows_already_stored"] += known


class _RefusedError(Exception):
    """PostgreSQL does not take these rows and never will."""


class _StoredAlreadyError(Exception):
    """One of these rows is stored already."""


def _placed(made: Sequence[Made], store: Store) -> Iterator[Made]:
    """Put images into the store, each the one row of its record; yield the rows that say where they are."""
    at = {name: COLUMNS[image].index(name) for name in ("trigger_time", "content", "place")}
    by_day: defaultdict[date, list[list[Any]]] = defaultdict(list)
    for ((_, row),) in made:
        by_day[moment(row[at["trigger_time"]]).date()].append(list(row))
    for day, found in by_day.items():
        for fields, place in zip(found, store.put(day, [row[at["content"]] for row in found]), strict=True):
            fields[at["content"]], fields[at["place"]] = None, place
            yield [(image, tuple(fields))]


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours: rows that are refused, or a server that does not do its part."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        state = original.sqlstate if isinstance(original, psycopg.Error) else None
        if state == _STORED_ALREADY:
            raise _StoredAlreadyError from error
        if (state or "")[:2] in _REFUSALS or (state is None and isinstance(original, psycopg.DataError)):
            raise _RefusedError(reason(error)) from error
        raise StoreError(reason(error)) from error
