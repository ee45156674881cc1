"""The live picture as browsers get it: one reader of Redis keeps it, whatever the number of browsers.

Every change of a part gets a number; a browser that comes back says which number it saw last and gets what it missed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from pydantic import BaseModel

from config.errors import StoreError
from config.log import Condition
from config.messages import GateOutcome, Health, Judgement, Verdict
from config.station import Station
from storage.alarms import Acknowledgement
from storage.console import andon
from storage.console.models import (
    Board,
    Light,
    LiveAlarm,
    LiveGate,
    LivePart,
    PartChange,
    Picture,
    Snapshot,
    Status,
    local,
    percentile,
)
from storage.console.streams import News, Streams

_KEPT = 500  # parts; the streams in Redis hold about as many
_RECALLED = 100
_SHOWN = 60  # parts that a new browser gets, and that figures of the last parts speak of
_HELD = 12  # parts that did not pass which it gets, be they older
_RATE_S = 15.0
_BLOCK_MS = 200
_STATUS_S = 1.0
_PICTURES_S = 0.25
_AWAITED = 64  # parts whose pictures are still looked for
_RETRY_S = 0.5
_ALARMS = 50  # that are shown
_QUEUE = 400  # events that a browser may be behind


class Browser:
    """One browser that follows: events that wait for it."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def offer(self, event: bytes) -> bool:
        """Add an event; False if the browser is too far behind: it gets nothing more and has to come back."""
        if len(self._waiting) >= _QUEUE:
            self._waiting.clear()
            self.end()
            return False
        self._waiting.append(event)
        self._news.set()
        return True

    def end(self) -> None:
        """Let the browser go once it has got what waits."""
        self._ended = True
        self._news.set()

    async def next(self) -> bytes:
        """Return all events that wait, as soon as there are any; nothing if there will be no more."""
        await self._news.wait()
        if not self._ended:
            self._news.clear()
        events = b"".join(self._waiting)
        self._waiting.clear()
        return events


class LiveFeed:
    """Follow one station's live picture and tell all browsers."""

    def __init__(self, station: Station, redis_url: str, counters: Counter[str]) -> None:
        self._names = andon.service_names(station)
        self._beside = andon.beside_names(station)
        self._counters = counters
        self._streams = Streams(redis_url, station.station, Condition("malformed_live_entry", counters))
        self._redis_down = Condition("redis_down", counters)
        self._slow = Condition("browser_too_slow", counters)
        self._parts: OrderedDict[str, LivePart] = OrderedDict()
        self._numbers: dict[str, int] = {}  # part_id -> number of its last change
        self._awaited: deque[str] = deque(maxlen=_AWAITED)
        self._times: deque[float] = deque()  # trigger times of the last seconds, Unix
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._browsers: set[Browser] = set()
        self._closed = False
        self._health: dict[str, Health] = {}
        self._tally: dict[str, str] = {}
        self._board: Board | None = None
        self.alarms: tuple[LiveAlarm, ...] = ()
        self.away: str | None = "Redis has not answered yet"

    @property
    def browsers(self) -> int:
        """How many browsers follow."""
        return len(self._browsers)

    @property
    def health(self) -> Mapping[str, Health]:
        """The last word of the station's processes, by name."""
        return self._health

    @property
    def services(self) -> tuple[str, ...]:
        """The station's processes: those that must run, then those beside the line."""
        return (*self._names, *self._beside)

    @property
    def changes(self) -> int:
        """How many changes of parts there were."""
        return self._number

    def post(self, board: Board) -> None:
        """Show all browsers what PostgreSQL knows."""
        self._board = board
        self._tell("board", board)

    def acknowledge(self, made: Acknowledgement) -> None:
        """Show all browsers that somebody has seen an alarm."""
        if self._board is not None:
            others = tuple(one for one in self._board.acknowledged if one.event_id != made.event_id)
            self.post(self._board.model_copy(update={"acknowledged": (*others, made)}))

    def light(self) -> Light:
        """Return the andon light."""
        return Light.of(andon.judge(self._names, self._health, self.away))

    def join(self, last_event_id: str | None) -> tuple[Browser, bytes]:
        """Let a browser follow; return it with the events that it lacks."""
        browser = Browser()
        if self._closed:
            browser.end()
        self._browsers.add(browser)
        return browser, b"".join(self._missed(last_event_id))

    def leave(self, browser: Browser) -> None:
        """Forget a browser."""
        self._browsers.discard(browser)

    def close(self) -> None:
        """Let all browsers go; they come back when there is a console again."""
        self._closed = True
        for browser in self._browsers:
            browser.end()

    async def run(self) -> None:
        """Follow until cancelled; while Redis is away say so and try again."""
        while True:
            try:
                self._take(await self._streams.recall(_RECALLED))
                self.away = None
                self._redis_down.end()
                await self._follow()
            except StoreError as error:
                self.away = str(error)
                self._health = {}
                self.alarms = ()
                self._redis_down.occur(error=str(error))
                self._tell("status", self.status())
                await asyncio.sleep(_RETRY_S)

    def status(self) -> Status:
        """Return the station at this moment."""
        recent = list(self._parts.values())[-_SHOWN:]
        latencies = [part.trigger_to_verdict_ms for part in recent]
        last = recent[-1] if recent else None
        storage = self._health.get("storage")
        journal = storage.counters if storage else {}
        since = time.time() - _RATE_S
        while self._times and self._times[0] < since:
            self._times.popleft()
        return Status(
            time=local(datetime.now(UTC)),
            light=self.light(),
            run=self._tally.get("run"),
            verdicts={verdict: self._counted(verdict.value) for verdict in Judgement},
            ejected=self._counted(GateOutcome.EJECTED.value),
            passed=self._counted(GateOutcome.PASSED.value),
            unseen=self._counted("UNSEEN"),
            parts_per_minute=round(60 * len(self._times) / _RATE_S, 1),
            latency_p50_ms=percentile(latencies, 0.5),
            latency_p99_ms=percentile([part.trigger_to_verdict_ms for part in self._parts.values()], 0.99),
            latency_max_ms=max(latencies, default=None),
            frames_waiting=self._summed("frames_waiting"),
            credit=self._summed("credit"),
            product=last.product if last else None,
            recipe=last.recipe if last else None,
            recipe_version=last.recipe_version if last else None,
            backlog_bytes=journal.get("journal_backlog_bytes", 0),
            backlog_s=journal.get("journal_backlog_s", 0),
            alarms=self.alarms,
        )

    async def _follow(self) -> None:
        status_s = pictures_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= pictures_s:
                pictures_s = now_s + _PICTURES_S
                await self._look_for_pictures()
            if now_s >= status_s:
                status_s = now_s + _STATUS_S
                self._health = await self._streams.health(self.services)
                self._tally = await self._streams.counters()
                self.alarms = tuple(map(LiveAlarm.of, (await self._streams.alarms())[:_ALARMS]))
                self._tell("status", self.status())
            self._take(await self._streams.read(_BLOCK_MS))

    def _take(self, news: News) -> None:
        for verdict in news.verdicts:
            self._add(verdict)
        for report in news.gate_reports:
            self._change(PartChange(part_id=report.part_id, gate=LiveGate.of(report)))

    def _add(self, verdict: Verdict) -> None:
        if verdict.part_id in self._parts:
            return
        part = LivePart.of(verdict)
        self._parts[part.part_id] = part
        self._awaited.append(part.part_id)
        self._times.append(verdict.trigger_time_ns / 1e9)
        self._tell("part", part)
        if len(self._parts) > _KEPT:
            forgotten, _ = self._parts.popitem(last=False)
            del self._numbers[forgotten]

    def _change(self, change: PartChange) -> None:
        part = self._parts.get(change.part_id)
        if part is None:
            return
        changed = part.changed(change)
        if changed != part:
            self._parts[change.part_id] = changed
            self._tell("change", change)

    async def _look_for_pictures(self) -> None:
        """Tell of pictures that have come; the kept `image` is better than the fleeting `live` one."""
        awaited = [self._parts[part_id] for part_id in self._awaited if part_id in self._parts]
        keys = [
            (part.part_id, view.camera, purpose)
            for part in awaited
            for view in part.views
            for purpose in ("live", "image")
        ]
        if not keys:
            return
        there = await self._streams.which_exist(keys)
        for part in awaited:
            pictures: dict[str, Picture] = {}
            for view in part.views:
                best: tuple[Picture, ...] = ("live", "image")
                for purpose in best:
                    if (part.part_id, view.camera, purpose) in there:
                        pictures[view.camera] = purpose
            if pictures != part.pictures:
                self._change(PartChange(part_id=part.part_id, pictures=pictures))

    def _missed(self, last_event_id: str | None) -> Iterator[bytes]:
        epoch, _, number = (last_event_id or "").partition("-")
        if epoch == self._epoch and number.isdecimal():
            seen = int(number)
            yield _event("status", self.status())
            if self._board is not None:
                yield _event("board", self._board)
            for part in self._parts.values():
                if self._numbers[part.part_id] > seen:
                    yield _event("part", part, self._id(self._numbers[part.part_id]))
        else:
            snapshot = Snapshot(status=self.status(), board=self._board, parts=self._shown())
            yield _event("snapshot", snapshot, self._id(self._number))

    def _shown(self) -> tuple[LivePart, ...]:
        parts = list(self._parts.values())
        older = [part for part in parts[:-_SHOWN] if part.verdict is not Judgement.PASS]
        return (*older[-_HELD:], *parts[-_SHOWN:])

    def _tell(self, kind: str, message: Status | Board | LivePart | PartChange) -> None:
        identity = None
        if isinstance(message, LivePart | PartChange):
            self._number += 1
            self._numbers[message.part_id] = self._number
            identity = self._id(self._number)
        event = _event(kind, message, identity)
        slow = [browser for browser in self._browsers if not browser.offer(event)]
        for browser in slow:
            self._browsers.discard(browser)
            self._slow.occur()
        if not slow:
            self._slow.end()

    def _counted(self, name: str) -> int:
        count = self._tally.get(name, "")
        return int(count) if count.isdecimal() else 0

    def _summed(self, name: str) -> int:
        return sum(health.counters.get(name, 0) for health in self._health.values())

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"


def _event(kind: str, message: BaseModel, identity: str | None = None) -> bytes:
    """Return an event as the HTML standard's `text/event-stream` has it."""
    named = f"id: {identity}\n" if identity else ""
    return f"event: {kind}\n{named}data: {message.model_dump_json(exclude_none=True)}\n\n".encode()
