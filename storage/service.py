"""The storage process: records come in, are journalled together with one fsync, and are acknowledged.

The loop knows sockets and the journal only. Two threads go on from there: one to PostgreSQL (`storage/postgres.py`),
one to Redis (`storage/live.py`); a third removes what is too old or too much (`storage/retention`), a fourth keeps the
library of recipes complete (`storage/registrar.py`), a fifth watches what images look like (`storage/drift.py`). None
is waited for.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import zmq

from config import bus
from config.bus import Receiver
from config.errors import StoreError
from config.events import Severity
from config.home import Home
from config.log import Condition, logger
from config.messages import AnyMessage, Appearance, Event, Evidence, GateReport, Health, Recorded, Verdict, encode
from config.service import Service
from storage import store
from storage.addresses import database_url, redis_url
from storage.drift import Drift
from storage.journal import Journal
from storage.live import LivePicture
from storage.lookout import Lookout
from storage.postgres import PostgresWriter
from storage.registrar import Registrar
from storage.retention.sweeper import Sweeper

_MB = 1024 * 1024
_GROUP_BYTES = 8 * _MB  # journalled at once, at most
_GROUP_RECORDS = 500
_RECENT = 50_000  # record ids by which a record that comes twice is known
_FIRST_TRY_S = 1.0  # what READY waits for PostgreSQL; the journal takes records without it
_SHORT_OF_ROOM, _ROOM_AGAIN = 0.25, 0.35  # of the journal's limit
_EVERY_NS = 50_000_000
_CALM_NS = 1_000_000_000  # couriers bring a refused record again twice in this time
_DRAIN_S = 0.8
_LIVE_S = 0.1
_SWEEP_S = 0.1
_OURSELVES = b""  # the peer that wants no answer

RecordMessage = Verdict | GateReport | Evidence | Event | Appearance


class _Waiting(NamedTuple):
    message: RecordMessage
    payload: list[bytes]
    peer: bytes


class Storage(Service):
    """Journal what couriers bring, acknowledge it, and hand it to PostgreSQL and Redis."""

    def __init__(self, home: Home) -> None:
        super().__init__("storage", home)
        self._opened = ExitStack()
        self._group: list[_Waiting] = []
        self._group_bytes = 0
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._states: dict[str, str] = {}
        self._refused = Condition("not_journalled", self.counters)
        self._refused_ns = 0
        self._shed = Condition("pictures_shed", self.counters)
        self._shedding = False
        self._every_ns = 0
        self._unexpected = Condition("unexpected_message", self.counters)

    def open(self) -> None:
        """Take over the journal and begin; PostgreSQL and Redis may come later."""
        self.home.make()
        station = self.home.read_station()
        database, redis = database_url(), redis_url()
        limits = station.storage
        self._journal = Journal(
            self.home.journal, limits.journal_limit_mb * _MB, limits.free_disk_mb * _MB, self.counters
        )
        self._opened.callback(self._journal.close)
        self._limits = limits
        run = self.home.read_run().run_id
        self._lookout = Lookout(self.home.path, station.station, run, self.counters)
        self._live = LivePicture(redis, station.station, run, self.counters)
        self._live.start()
        self._opened.callback(self._live.stop, _LIVE_S)
        images = store.connect(limits.images, station.station)
        if images is not None:
            self._opened.callback(images.close)
        self._writer = PostgresWriter(database, self._journal, images, self.counters)
        self._writer.start()
        self._opened.callback(self._writer.stop, _DRAIN_S)
        self._sweeper = Sweeper(database, self.home.path, station.station, limits.retention, images, self.counters)
        self._sweeper.start()
        self._opened.callback(self._sweeper.stop, _SWEEP_S)
        self._registrar = Registrar(database, self.home.path, self.home.versions(), self.counters)
        self._registrar.start()
        self._opened.callback(self._registrar.stop, _SWEEP_S)
        self._drift = Drift(database, station.station, self.counters)
        self._drift.start()
        self._opened.callback(self._drift.stop, _SWEEP_S)
        self._records = self.bus.bind(zmq.ROUTER, self.home.endpoint("records"))
        self._receiver = Receiver(self._records, self._take, self.counters)
        self.watch(self._records, self._receive)
        health = self.bus.bind(zmq.PULL, *self.home.addresses("health"))
        self.watch(health, Receiver(health, self._take_health, self.counters))
        self._opened.callback(self._commit)
        self._writer.tried.wait(_FIRST_TRY_S)
        self._judge()

    def tick(self, now_ns: int) -> None:
        """Journal what has come in this round; now and then look after everything else."""
        self._commit()
        if now_ns < self._every_ns:
            return
        self._every_ns = now_ns + _EVERY_NS
        self._look_at_room()
        self._group += [_Waiting(event, [], _OURSELVES) for event in self._lookout.due(self._all_conditions(), now_ns)]
        self._commit()
        self._live.alarms = self._lookout.on
        if now_ns - self._refused_ns > _CALM_NS:
            self._refused.end()
        self._judge()
        for thread in (self._writer, self._live, self._sweeper, self._registrar, self._drift):
            if not thread.is_alive():
                raise StoreError(f"the thread {thread.name} has ended: see its traceback above")

    def close(self) -> None:
        """Leave everything acknowledged on disk; what PostgreSQL does not take in time stays in the journal."""
        self._opened.close()

    def _receive(self) -> None:
        """Take all that waits, so that one fsync serves it all."""
        while len(self._group) < _GROUP_RECORDS and self._group_bytes < _GROUP_BYTES and self._records.poll(0):
            self._receiver()

    def _take(self, message: AnyMessage, payload: list[bytes], peer: bytes) -> None:
        if not isinstance(message, RecordMessage):
            self._unexpected.occur(kind=message.kind, peer=peer.decode(errors="replace"))
            return
        self._unexpected.end()
        self._group.append(_Waiting(message, payload, peer))
        self._group_bytes += sum(map(len, payload))

    def _take_health(self, message: AnyMessage, payload: list[bytes], peer: bytes) -> None:
        del payload
        if isinstance(message, Appearance):
            self._group.append(_Waiting(message, [], _OURSELVES))
            return
        if not isinstance(message, Health):
            self._unexpected.occur(kind=message.kind, peer=peer.decode(errors="replace"))
            return
        if self._states.get(message.service) != message.state:
            self._states[message.service] = message.state
            logger().info("state", of=message.service, state=message.state, detail=message.detail)
        self._lookout.hear(message)
        self._live.offer(message)

    def _conditions(self) -> Iterator[tuple[str, Severity, str | None]]:
        """Say what is wrong with storage itself, and what is not."""
        yield "not_journalled", "ALARM", "records are not journalled: see the log" if self._refused.active else None
        yield (
            "pictures_shed",
            "WARNING",
            "the journal is almost full: pictures are not kept" if self._shedding else None,
        )
        yield "not_written", "WARNING", self._writer.problem
        yield "redis_down", "WARNING", self._live.problem
        yield "space_short", "WARNING", self._sweeper.problem

    def _all_conditions(self) -> Iterator[tuple[str, Severity, str | None]]:
        """Say what people should hear of, too, though storage itself is well."""
        yield from self._conditions()
        yield "images_drift", "WARNING", self._drift.problem

    def _commit(self) -> None:
        """Journal the group with one fsync, then acknowledge it and let the others know."""
        if not self._group:
            return
        self._look_at_room()
        group, self._group, self._group_bytes = self._group, [], 0
        fresh: dict[str, _Waiting] = {}
        for waiting in group:
            if self._keeps(waiting.message) and waiting.message.record_id not in self._recent:
                fresh.setdefault(waiting.message.record_id, waiting)
        self._write(list(fresh.values()))
        now_ns = time.monotonic_ns()
        recorded: defaultdict[bytes, list[str]] = defaultdict(list)
        for message, _, peer in group:
            if peer != _OURSELVES and (not self._keeps(message) or message.record_id in self._recent):
                recorded[peer].append(message.record_id)
        for peer, record_ids in recorded.items():
            bus.send(self._records, Recorded(record_ids=tuple(record_ids), journalled_ns=now_ns), to=peer)
        self._writer.wake()
        for waiting in group:
            self._settle(waiting, fresh)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _settle(self, waiting: _Waiting, fresh: dict[str, _Waiting]) -> None:
        """Count and show a record, unless it is not on disk: then its courier brings it again."""
        message, payload, peer = waiting
        if isinstance(message, Evidence) and not self._keeps(message):
            if _is_fleeting(message):
                self.counters["live_images"] += 1
            else:
                self._shed.occur(room_bytes=self._journal.room_bytes)
            self._live.offer(message, payload)
        elif message.record_id not in self._recent:
            if isinstance(message, Event) and peer == _OURSELVES:
                self._lookout.refused(message)
        elif fresh.pop(message.record_id, None) is None:
            self.counters["doubles"] += 1
        else:
            self.counters[message.kind.partition("/")[0]] += 1
            if not isinstance(message, Appearance):
                self._live.offer(message, payload)
            if isinstance(message, Event):
                note = self._lookout.journalled if peer == _OURSELVES else self._lookout.saw
                note(message)

    def _write(self, fresh: list[_Waiting]) -> None:
        if not fresh:
            return
        reason = "the journal or its disk is full"
        try:
            taken = self._journal.append([encode(message, payload) for message, payload, _ in fresh])
        except StoreError as error:
            taken, reason = [], str(error)
        for index in taken:
            self._recent[fresh[index].message.record_id] = None
        self.counters["journalled"] += len(taken)
        if len(taken) < len(fresh):
            self._refused.occur(reason=reason, journal_bytes=self._journal.size_bytes)
            self._refused_ns = time.monotonic_ns()

    def _keeps(self, message: RecordMessage) -> bool:
        """Tell whether a record is journalled: neither pictures for the live page alone, nor pictures that give way."""
        return not (_is_fleeting(message) or (self._shedding and isinstance(message, Evidence)))

    def _look_at_room(self) -> None:
        """Let pictures give way to verdicts in the last quarter of the journal, where the station wants it so."""
        if self._limits.journal_bound == "shed":
            share = self._journal.room_bytes / (self._limits.journal_limit_mb * _MB)
            self._shedding = share < (_ROOM_AGAIN if self._shedding else _SHORT_OF_ROOM)
            if not self._shedding:
                self._shed.end()

    def _judge(self) -> None:
        """Say how things are."""
        self.counters["journal_bytes"] = self._journal.size_bytes
        self.counters["journal_backlog_bytes"] = self._writer.backlog_bytes
        self.counters["journal_backlog_s"] = round(self._writer.backlog_s)
        problems = [detail for _, _, detail in self._conditions() if detail]
        self.state, self.detail = ("DEGRADED" if problems else "READY"), "; ".join(problems)


def _is_fleeting(message: RecordMessage) -> bool:
    """Tell whether a picture is for the live page alone."""
    return isinstance(message, Evidence) and message.purpose == "live"
