"""Storage through all that can happen to it: what was issued is stored, once, in order, and counted; people's, too."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import shifted_clock
import sqlalchemy
from live_servers import Servers
from shifted_clock import ShiftedClock
from sqlalchemy import text
from sqlalchemy.pool import NullPool
from storage_process import JPEG, Sender, Storage, storage, until, verdict

from config.errors import InputError, StoreError
from config.home import Home
from config.messages import AnyMessage, Evidence, Judgement, Recorded, Verdict
from storage import audit
from storage.record import Position
from storage.reviews import Finding, Reviews

_HOUR_S = 3600
_CROP_EVERY = 10


class Witness(Sender):
    """A sender that knows when each verdict was sent and when it was acknowledged, by one clock of its own."""

    def __init__(self, home: Home, name: str, first: int) -> None:
        super().__init__(home, name)
        self.first = self.next = first
        self.acknowledged: dict[str, int] = {}
        self.sent: dict[str, int] = {}
        self.crops = 0
        self.late: deque[tuple[Verdict, list[bytes]]] = deque(maxlen=40)
        self._now = 0

    def issue(self, **changes: object) -> None:
        """Send the next verdict, and now and then a crop."""
        judgement = Judgement.REJECT if self.next % _CROP_EVERY == 0 else Judgement.PASS
        message, payload = verdict(self.next, judgement, **changes)
        self.next += 1
        self._now += 1
        self.sent[message.part_id] = self._now
        self.send(message, payload)
        self.late.append((message, payload))
        if judgement is Judgement.REJECT:
            seen = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
            self.send(Evidence(**seen, purpose="crop", region=0, width_px=9, height_px=9), [JPEG])
            self.crops += 1

    def forget_answers(self) -> None:
        """Lose what storage has answered and nobody has read yet."""
        while self.socket.poll(50):
            self.socket.recv_multipart()

    def _handle(self, message: AnyMessage, *rest: object) -> None:
        assert isinstance(message, Recorded)
        self._now += 1
        for record_id in message.record_ids:
            part_id = record_id.removeprefix("verdict:")
            if part_id in self.sent:
                self.acknowledged.setdefault(part_id, self._now)
        super()._handle(message, *rest)

    def assert_in_order(self, stored: list[str]) -> None:
        """Nothing that was acknowledged is stored after what was sent later.

        What was in flight when storage died is sent again half a second later, and may then come after younger ones.
        """
        earliest = self._now + 1
        for part_id in reversed(stored):
            assert earliest >= self.sent[part_id], f"{part_id} was sent after others were acknowledged that follow it"
            earliest = min(earliest, self.acknowledged[part_id])


class People(threading.Thread):
    """Somebody who reviews parts, holds them and releases them again, whatever state the database is in."""

    def __init__(self, station: Storage, seed: int) -> None:
        super().__init__(daemon=True)
        self._station = station
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self.made = 0
        self.failed = 0

    def run(self) -> None:
        reviews = Reviews(self._station.database, self._station.home.path)
        try:
            while not self._ended.wait(0.02):
                with contextlib.suppress(InputError):  # not there yet, or on hold already
                    self._act(reviews)
        finally:
            reviews.close()

    def _act(self, reviews: Reviews) -> None:
        part_id = f"st-r1-{self._chance.randrange(200):08}"
        try:
            chosen = self._chance.randrange(4)
            if chosen == 0:
                reviews.hold(part_id, "to be looked at", "tester")
            elif chosen == 1:
                reviews.release(part_id, "tester")
            else:
                reviews.add(part_id, Finding.GOOD, "tester", comment="looks fine")
            self.made += 1
        except StoreError:
            self.failed += 1

    def end(self) -> None:
        self._ended.set()
        self.join(30)
        assert not self.is_alive()


class Line:
    """Two senders and somebody who reviews, at one storage process."""

    def __init__(self, station: Storage) -> None:
        self.station = station
        self.senders = [Witness(station.home, "decision", 0), Witness(station.home, "second", 1_000_000)]
        station._senders += self.senders
        self.people = People(station, 1)
        self._doubles = station.sender("doubles")

    def issue(self, count: int, **changes: object) -> None:
        for _ in range(count):
            for sender in self.senders:
                sender.issue(**changes)
                if sender.next % 50 == 0:
                    self._doubles.send(*sender.late[0])  # somebody brings it once more
        for sender in (*self.senders, self._doubles):
            sender.take(1)

    def finish(self) -> None:
        for sender in (*self.senders, self._doubles):
            sender.finish(60)

    def assert_whole(self, within_s: float = 30) -> None:
        """Rows = verdicts issued, none doubled, order kept, tallies = rows, trail and what it says of are whole."""
        self.finish()
        issued = sum(sender.next - sender.first for sender in self.senders)
        until(lambda: self.station.stored() >= issued, self.station.said, within_s)
        until(lambda: _is_well(self.station), self.station.said, within_s)
        if self.people.ident:
            self.people.end()
        with sqlalchemy.create_engine(self.station.database, poolclass=NullPool).connect() as connection:

            def one(statement: str) -> object:
                return connection.execute(text(statement)).scalar_one()

            assert one("SELECT count(*) FROM verdict") == issued
            assert one("SELECT count(DISTINCT part_id) FROM verdict") == issued
            assert one("SELECT count(*) FROM view") == issued
            assert one("SELECT count(*) FROM image") == sum(sender.crops for sender in self.senders)
            assert one("SELECT sum(parts)::bigint FROM tally") == issued
            stored = [row.part_id for row in connection.execute(text("SELECT part_id FROM verdict ORDER BY position"))]
            for sender in self.senders:
                sender.assert_in_order([part_id for part_id in stored if part_id in sender.sent])
            noted = audit.Anchor(self.station.home.path).read()
            verified = audit.verify(connection, {"audit.json": noted} if noted else {})
            assert verified.whole, verified.fault
            trail = dict(connection.execute(text("SELECT action, count(*)::int FROM audit GROUP BY 1")).all())
            assert one("SELECT count(*) FROM review") == trail.get("review.added", 0)
            assert one("SELECT count(*) FROM hold") == trail.get("hold.placed", 0) - trail.get("hold.released", 0)
            changes = sum(trail.get(action, 0) for action in ("review.added", "hold.placed", "hold.released"))
            assert self.people.made <= changes <= self.people.made + self.people.failed
        assert list((self.station.home.journal).glob("refused/*")) == []


def _is_well(station: Storage) -> bool:
    health = station.health()
    return health is not None and health.state == "READY" and health.counters["journal_backlog_bytes"] == 0


@pytest.mark.parametrize(
    "kills",
    [
        9,
        pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_nothing_is_lost_or_doubled_by_kill_9(servers: Servers, kills: int) -> None:
    chance = random.Random(7)
    with storage(servers) as station:
        station.start()
        line = Line(station)
        line.people.start()
        victims = [station, servers.postgres, servers.valkey, None] * (-(-kills // 4))
        chance.shuffle(victims)
        for victim in victims[:kills]:
            until_s = time.monotonic() + chance.uniform(0.05, 0.6)
            while time.monotonic() < until_s:
                line.issue(2)
            if victim is None:  # one of PostgreSQL's processes alone: it ends and begins them all anew
                with contextlib.suppress(ProcessLookupError, IndexError):  # it is doing so already
                    os.kill(chance.choice(servers.postgres.family()[1:]), signal.SIGKILL)
                continue
            victim.kill()
            for _ in range(chance.randrange(10)):
                line.issue(1)
            victim.start()
        line.assert_whole(60)
        assert line.people.made > 0


@pytest.mark.parametrize(
    ("names", "pause_s"),
    [
        (("postgres", "valkey"), 6),
        pytest.param(("postgres",), 60, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
        pytest.param(("valkey",), 60, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_paused_servers_hold_up_nobody(servers: Servers, names: tuple[str, ...], pause_s: float) -> None:
    """SIGSTOP: connections stay open and nothing is answered, which is worse than a server that is gone."""
    with storage(servers) as station:
        station.start()
        line = Line(station)
        line.people.start()
        for _ in range(20):
            line.issue(5)
        line.finish()
        with contextlib.ExitStack() as paused:
            for name in names:
                paused.enter_context(getattr(servers, name).paused())
            until_s = time.monotonic() + pause_s
            while time.monotonic() < until_s:
                line.issue(1)
                time.sleep(0.02)
            for sender in line.senders:
                sender.finish(2)  # acknowledged all the same
                assert max(sender.delays_ms) < 1000
            if names == ("postgres",):
                health = station.health()
                assert health is not None
                assert health.state == "DEGRADED"
                assert "PostgreSQL does not answer" in health.detail
        line.assert_whole()


@contextlib.contextmanager
def shifted(servers: Servers, clock: ShiftedClock) -> Iterator[None]:
    """Let both servers run by another clock."""
    for server in (servers.postgres, servers.valkey):
        server.stop()
        server.environment = clock.environment
    servers.ready()
    try:
        yield
    finally:
        for server in (servers.postgres, servers.valkey):
            server.stop()
            server.environment = {}


@pytest.mark.skipif(shifted_clock.COMPILER is None, reason="NO C COMPILER: the wall clock cannot be shifted")
def test_clock_that_is_set_back_an_hour_changes_nothing(servers: Servers) -> None:
    """From ten past midnight of a Monday to Sunday: into the partitions of the week and the day before."""
    with storage(servers) as station:
        clock = ShiftedClock(station.home.path.parent)
        monday = datetime.now(UTC).replace(hour=0, minute=10, second=0, microsecond=0) + timedelta(days=1)
        monday += timedelta(days=(7 - monday.weekday()) % 7)
        clock.set(round(monday.timestamp() - time.time()))
        with shifted(servers, clock):
            station.environment |= clock.environment
            station.start()
            line = Line(station)
            line.people.start()

            def issue() -> None:
                for _ in range(10):
                    line.issue(10, trigger_time_ns=time.time_ns() + clock.offset_s * 10**9)

            issue()
            clock.set(clock.offset_s - _HOUR_S)  # under the running processes
            issue()
            station.kill()
            line.issue(20, trigger_time_ns=time.time_ns() + clock.offset_s * 10**9)
            station.start()
            issue()
            until(lambda: station.stored() >= 400, station.said)
            servers.postgres.kill()
            servers.postgres.start()
            clock.set(clock.offset_s + _HOUR_S)  # somebody puts it right
            issue()
            line.assert_whole()
            with sqlalchemy.create_engine(station.database, poolclass=NullPool).connect() as connection:
                hours = connection.execute(text("SELECT hour, sum(parts)::int FROM tally GROUP BY 1 ORDER BY 1")).all()
                recorded = connection.execute(text("SELECT min(recorded_at), max(recorded_at) FROM verdict")).one()
            midnight = monday.replace(minute=0)
            assert [hour for hour, _ in hours] == [midnight - timedelta(hours=1), midnight]
            assert recorded[0] < midnight < recorded[1]  # PostgreSQL's clock was set, too
        assert not [line for line in station.lines() if line["level"] == "error"]


@pytest.mark.parametrize("cuts", [3, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_torn_tail_costs_nothing_that_was_acknowledged(servers: Servers, cuts: int) -> None:
    """The journal's last segment is cut anywhere behind what was acknowledged, as a power cut does."""
    chance = random.Random(11)
    with storage(servers) as station:
        station.start()
        line = Line(station)
        for _ in range(cuts):
            line.issue(20)
            line.finish()
            certain = _end_of_journal(station)
            for sender in line.senders:
                for _ in range(15):
                    sender.issue()  # nobody listens to what storage answers to these
            until(partial(_is_beyond, station, certain), station.said)
            station.kill()
            for sender in line.senders:
                sender.forget_answers()
            segment = station.home.journal / f"{certain.segment:012}.segment"
            os.truncate(segment, chance.randint(certain.offset, segment.stat().st_size))
            station.start()
        line.assert_whole()


def _is_beyond(station: Storage, position: Position) -> bool:
    return _end_of_journal(station) > position


def _end_of_journal(station: Storage) -> Position:
    segment = max(station.home.journal.glob("*.segment"))
    return Position(int(segment.stem), segment.stat().st_size)
