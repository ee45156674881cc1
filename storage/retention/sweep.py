"""Sweeps of retention: what is too old goes, then, where a bound is passed, what is given up for space.

Only one sweep runs on a database at a time. Each partition is a transaction of its own with its audit entry in it, so
a sweep that is cut short has done what it has done, and said so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Event

import psycopg
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

from config.errors import StoreError
from config.station import RetentionSection
from storage import audit, partitions, schema
from storage.chain import Head
from storage.failures import translated
from storage.migrate import check
from storage.partitions import Partition
from storage.retention import bounds, packs, plan, removal
from storage.retention.bounds import MB, Bound
from storage.retention.plan import MINIMUM, Kind, Note, Removal
from storage.retention.removal import Removed, Weight
from storage.retention.survey import Holding, survey
from storage.store import Store

_LOCK = 0x616E646F72  # held by the one that sweeps
_SETTINGS = {
    "statement_timeout": "30min",
    "lock_timeout": "2s",
    "work_mem": "64MB",  # a million verdicts are looked up
    "client_connection_check_interval": "1s",  # what a killed process has begun ends soon
}
_CONNECT = {
    "connect_timeout": 3,
    "application_name": "andon retention",
    "options": " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SLACK = 0.05  # more is freed than must be, lest the next part passes the bound again
_ROOM_BYTES = 64 * MB  # beside what a partition's rest takes: for the log that is written ahead
_AGAIN_S = 24 * 3600.0  # then what did not pay is weighed again, and a day's packs are looked at again
_LATER_S, _SOON_S = 3000.0, 50.0  # then what was in use is tried again; soon, where a bound is passed
_EVENTS = 10_000  # removed at once
_CANCEL_S = 0.1
_TABLES = (
    schema.image,
    schema.view,
    schema.defect,
    schema.gate_report,
    schema.verdict,
)  # the class is known to the end


@dataclass
class Swept:
    """What a sweep did."""

    removed: list[Removed] = field(default_factory=list)
    packs_bytes: int = 0
    events: int = 0
    left: list[str] = field(default_factory=list)  # what could not be swept this time, and why
    problem: str | None = None  # the bound that it could not keep
    of_disk: bool = False  # and whether that is one of a disk

    def counts(self) -> dict[str, int]:
        """Return it in numbers."""
        return {
            "rows_removed": sum(one.rows for one in self.removed) + self.events,
            "images_removed": sum(one.images for one in self.removed),
            "maps_removed": sum(one.maps for one in self.removed),
            "bytes_freed": sum(one.freed_bytes for one in self.removed) + self.packs_bytes,
        }


class _NoRoomError(Exception):
    """There is too little room to write the rest of a partition anew."""


class Sweep:
    """Sweeps of one station's parts, one after another, with what is remembered between them."""

    def __init__(
        self,
        url: URL,
        home: Path,
        station: str,
        keep: RetentionSection,
        store: Store | None,
        counters: Counter[str],
        who: str = "storage",
    ) -> None:
        """Take the state folder for the embedded database's disk and the audit trail's anchor; `who` is said there."""
        self._engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
        self._url = url
        self._home = home
        self._station = station
        self._keep = keep
        self._store = store
        self._counters = counters
        self._who = who
        self._later: dict[Partition, tuple[frozenset[str], float]] = {}  # classes that are left alone until then
        self._packs_seen: dict[date, float] = {}  # until when
        self._disk: Path | None = None
        self._stopping = Event()
        self._driver: psycopg.Connection | None = None  # of the sweep that runs

    def shortage(self) -> str | None:
        """Say which disk has less room than it must, if one has; the database is not asked."""
        return next((bound.said() for bound in self._disks() if bound.passed()), None)

    def passed(self) -> list[str]:
        """Say which bounds are passed. Raise StoreError where the database or the store does not answer."""
        with translated(), self._engine.connect() as connection:
            all_bounds = (*self._disks(), *bounds.of_sizes(self._keep, connection, self._store))
            return [bound.said() for bound in all_bounds if bound.passed()]

    def survey(self, now: datetime) -> list[Holding]:
        """Weigh what is stored and what of it would go by age. Raise StoreError where the database does not answer."""
        with translated(), self._engine.connect() as connection, connection.begin():
            check(connection)
            return survey(connection, self._keep, self._station, now)

    def stop(self) -> None:
        """End a running sweep; what it has in hand is rolled back. From any thread, once and for all."""
        self._stopping.set()
        driver = self._driver
        if driver is not None:
            with suppress(psycopg.Error):
                driver.cancel_safe(timeout=_CANCEL_S)

    def run(self, now: datetime) -> Swept:
        """Sweep once. Raise StoreError where the database or the store does not do its part, or another one sweeps."""
        swept = Swept()
        try:
            with translated(), self._engine.connect() as connection, _alone(connection):
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
                self._driver = driver
                with connection.begin():
                    check(connection)
                    partitions.make_ahead(connection, now)
                self._sweep(connection, now, swept)
        finally:
            self._driver = None
            for name, count in swept.counts().items():
                self._counters[name] += count
        return swept

    def _sweep(self, connection: Connection, now: datetime, swept: Swept) -> None:
        notes = _notes(connection)
        for due in plan.by_age(_present(connection), self._keep, now):
            self._carry_out(connection, due, notes, now, swept)
        for bound in (*self._disks(), *bounds.of_sizes(self._keep, connection, self._store)):
            if bound.passed():
                self._free(connection, bound, notes, now, swept)
        if self._store is not None:
            clock_s = time.monotonic()
            days = [day for day in self._store.days() if self._packs_seen.get(day, 0.0) <= clock_s]
            self._remove_packs(connection, days, now, swept)
        swept.events = self._remove_events(connection, now)

    def _free(self, connection: Connection, bound: Bound, notes: dict[str, Note], now: datetime, swept: Swept) -> None:
        """Give up what may be given up, until there is enough."""
        for due in plan.by_space(_present(connection), now, of_images=bound.of_images):
            if not bound.passed(_SLACK):
                return
            self._carry_out(connection, due, notes, now, swept, bound)
        if bound.passed():
            swept.of_disk = bound.is_free
            swept.problem = (
                f"{bound.said()}, and nothing more can be removed "
                f"({'; '.join(swept.left) or 'reviewed, held, picked, of a day or week not over since a day'}): "
                "make room, or change storage.retention in the station file"
            )

    def _carry_out(
        self,
        connection: Connection,
        due: Removal,
        notes: dict[str, Note],
        now: datetime,
        swept: Swept,
        bound: Bound | None = None,
    ) -> None:
        """Do one removal, unless there is nothing to do, or it does not pay."""
        classes, note = frozenset(due.before), notes.get(due.partition.name)
        left_alone, until_s = self._later.get(due.partition, (frozenset(), 0.0))
        if plan.is_done(due, note, now.date()) or (classes <= left_alone and time.monotonic() < until_s):
            return
        with connection.begin():
            there = [one for one in _partitions_of(due) if one in partitions.present(connection)]
            own = self._weigh(connection, due, due.partition) if due.partition in there else None
            share = 1.0 if own is None else removal.share(due, own)  # of a week without verdicts: what nobody knows of
            going = []
            if plan.is_worth(share) and (bound is None or _gives(due, own, bound)):
                going = [one for one in there if self._concerns(connection, due, one)]
        try:
            for one in going:
                self._check_room(connection, one, share)
                self._remove(connection, due, one, now, swept)
        except (removal.InUseError, _NoRoomError) as error:
            swept.left.append(str(error))
            self._later[due.partition] = (classes, time.monotonic() + (_SOON_S if bound else _LATER_S))
            return
        if going:
            self._remove_packs(connection, _days(due) if due.kind is not Kind.MAPS else [], now, swept)
        elif own is None or any(weight.going_rows for weight in own):
            if bound is None:
                self._later[due.partition] = (classes, time.monotonic() + _AGAIN_S)
        else:
            with connection.begin():
                notes[due.partition.name] = Note(classes | (note.classes if note else frozenset()), now.date())
                removal.write_note(connection, due.partition, notes[due.partition.name])

    def _weigh(self, connection: Connection, due: Removal, partition: Partition) -> list[Weight]:
        self._go_on()
        return removal.weigh(connection, due, partition, self._station)

    def _concerns(self, connection: Connection, due: Removal, partition: Partition) -> bool:
        self._go_on()
        return removal.concerns(connection, due, partition, self._station)

    def _remove(self, connection: Connection, due: Removal, partition: Partition, now: datetime, swept: Swept) -> None:
        self._go_on()
        heads: list[Head] = []

        def beside(connection: Connection, rest: str) -> None:
            if self._store is not None and partition.table is schema.image:
                packs.gather(connection, rest, partition.start.date(), self._store, now, self._counters)

        def at_last(connection: Connection, removed: Removed) -> None:
            entry = ("retention.swept", partition.name, None, removed.said())
            heads[:] = [audit.append(connection, self._who, *entry)]

        swept.removed.append(
            removal.remove(
                connection,
                due,
                partition,
                self._station,
                stopping=self._stopping,
                today=now.date(),
                beside=beside,
                at_last=at_last,
            )
        )
        for head in heads:
            audit.Anchor(self._home).note(connection, head)

    def _check_room(self, connection: Connection, partition: Partition, share: float) -> None:
        """Raise _NoRoomError unless what stays of a partition, after `share` of it went, can be written beside it."""
        free_bytes = next((bound.measure() for bound in self._disks() if not bound.of_images), None)
        if free_bytes is None or share == 1:
            return
        with connection.begin():
            size = "SELECT pg_total_relation_size(CAST(:name AS regclass))"
            size_bytes = connection.execute(text(size), {"name": partition.name}).scalar_one()
        needed = int(size_bytes * (1 - share)) + _ROOM_BYTES
        if needed > free_bytes:
            raise _NoRoomError(f"{partition.name}: {needed // MB} MB are needed to write it anew")

    def _remove_packs(self, connection: Connection, days: list[date], now: datetime, swept: Swept) -> None:
        if self._store is None:
            return
        for day in days:
            self._go_on()
            swept.packs_bytes += packs.remove_unused(connection, self._store, day, self._station, now)
            self._packs_seen[day] = time.monotonic() + _AGAIN_S

    def _remove_events(self, connection: Connection, now: datetime) -> int:
        """Remove events by age, a few at a time; their table is small."""
        cutoff = now - max(MINIMUM, timedelta(days=self._keep.events_days))
        old = "SELECT event_id FROM event WHERE time < :cutoff AND recorded_at < :cutoff AND station = :station"
        statement = text(f"DELETE FROM event WHERE event_id IN ({old} LIMIT {_EVENTS})")  # noqa: S608 - our own
        removed, count = 0, _EVENTS
        while count == _EVENTS:
            self._go_on()
            with connection.begin():
                count = connection.execute(statement, {"cutoff": cutoff, "station": self._station}).rowcount
            removed += count
        return removed

    def _disks(self) -> list[Bound]:
        self._disk = bounds.embedded_disk(self._home, self._url) or self._disk  # the server may be down just now
        return bounds.of_disks(self._keep, self._disk, self._store)

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise StoreError("the sweep was stopped")


def _partitions_of(due: Removal) -> list[Partition]:
    """Return the partitions that a removal concerns, the one that it is named after last."""
    if due.kind is not Kind.ROWS:
        return [due.partition]
    found = []
    for table in _TABLES:
        start = due.start
        while start < due.end:
            found.append(partitions.partition_of(table, start))
            start = found[-1].end
    return found


def _days(due: Removal) -> list[date]:
    return [(due.start + timedelta(days=number)).date() for number in range((due.end - due.start).days)]


def _gives(due: Removal, weights: list[Weight] | None, bound: Bound) -> bool:
    """Tell whether a removal helps against a bound: images in a store take no room in the database."""
    if due.kind is not Kind.IMAGES or weights is None:
        return True
    return any(weight.going_placed_bytes if bound.of_images else weight.going_bytes for weight in weights)


def _present(connection: Connection) -> set[Partition]:
    with connection.begin():
        return partitions.present(connection)


def _notes(connection: Connection) -> dict[str, Note]:
    with connection.begin():
        return removal.notes(connection)


def hold_off(connection: Connection, *, wait: bool) -> bool:
    """Let no sweep begin until this transaction ends; False if one runs now that is not to be waited for."""
    if wait:
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _LOCK})
        return True
    held = connection.execute(text("SELECT pg_try_advisory_xact_lock_shared(:key)"), {"key": _LOCK})
    return bool(held.scalar_one())


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    with connection.begin():
        alone = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}).scalar_one()
    if not alone:
        raise StoreError("another sweep, or a backup, is at work on this database")
    yield  # closing the connection gives it back
