"""The watch: what the processes' health tells, as events. Pure but for ids and the time of events.

    started     INFO      HAPPENED  heard of for the first time in this run
    restarted   WARNING   HAPPENED  another process under the same name
    degraded    WARNING   condition with the process's own words
    silent      ALARM     condition: not heard of for 3 s

and what storage says of itself by `say`. Whatever flaps is told six times a minute at most; what was held back is
counted, and the state is told as soon as there is room again. What is on outlives storage in a `Memory`: it holds every
condition whose end is not in the journal yet, so that a killed storage leaves none on for ever.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from config import events
from config.events import Severity
from config.messages import Event, Group, Health

OWN = "storage"  # whose conditions come by `say`
_DEGRADED, _SILENT = "degraded", "silent"
_SILENT_NS = 3_000_000_000
_STALLED_NS = 1_000_000_000  # between two ticks: then it was us who did not listen
_WINDOW_NS = 60_000_000_000
_TOLD = 6  # changes of one condition in a window
_MOST = 256  # services, and conditions that others sent
_LONGEST_DETAIL = 1000  # characters
_NUMBER = re.compile(r"\d+")

_Key = tuple[str, str]  # service, name


class Memory(Group, frozen=True, kw_only=True):
    """What the next storage process of this state folder has to know."""

    run_id: str
    pids: dict[str, int]
    on: tuple[Event, ...]


@dataclass
class _Told:
    """What has been told of one condition, or of one kind of happening."""

    severity: Severity = "INFO"
    beginning: Event | None = None  # told, and not its end
    said: str | None = None  # the detail that was told with it
    detail: str | None = None  # as it is; None: off
    times_ns: deque[int] = field(default_factory=deque)
    held_back: int = 0

    def has_room(self, now_ns: int) -> bool:
        while self.times_ns and now_ns - self.times_ns[0] > _WINDOW_NS:
            self.times_ns.popleft()
        return len(self.times_ns) < _TOLD

    def told(self, now_ns: int) -> str:
        """Note that something is told, and return what has to be said of what was not."""
        self.times_ns.append(now_ns)
        held_back, self.held_back = self.held_back, 0
        return f"{held_back} changes before were held back" if held_back else ""


class Watch:
    """Turn what is heard into events for `news`; all times are monotonic."""

    def __init__(self, station: str, run_id: str, memory: Memory | None, counters: Counter[str], now_ns: int) -> None:
        """Go on from what an earlier process remembered; what was on in another run has ended with it."""
        self._station = station
        self._run_id = run_id
        self._counters = counters
        self._told: dict[_Key, _Told] = {}
        self._others: dict[_Key, Event] = {}  # conditions that services sent themselves
        self._news: list[Event] = []
        self._ending: dict[str, Event] = {}  # id of an end that is not journalled -> its beginning
        self._tick_ns = now_ns
        same = memory is not None and memory.run_id == run_id
        self._pids = dict(memory.pids) if memory and same else {}
        self._heard_ns = dict.fromkeys(self._pids, now_ns)
        for beginning in memory.on if memory else ():
            key = (beginning.service, beginning.name)
            if not same:
                self._end(beginning, "its run ended")
            elif beginning.name in {_DEGRADED, _SILENT} or beginning.service == OWN:
                self._told[key] = _Told(beginning.severity, beginning, beginning.detail, beginning.detail)
            else:
                self._others[key] = beginning

    @property
    def on(self) -> tuple[Event, ...]:
        """The conditions that are on, as they began."""
        told = (told.beginning for told in self._told.values() if told.beginning is not None)
        return (*told, *self._others.values())

    @property
    def memory(self) -> Memory:
        """What is to be remembered now."""
        return Memory(run_id=self._run_id, pids=dict(self._pids), on=(*self.on, *self._ending.values()))

    def news(self) -> list[Event]:
        """Return the events since the last call."""
        news, self._news = self._news, []
        return news

    def journalled(self, records: Iterable[Event]) -> None:
        """Forget what is only remembered until its end is on disk."""
        for event in records:
            self._ending.pop(event.event_id, None)

    def take(self, health: Health, now_ns: int) -> None:
        """Hear a process."""
        service = health.service
        known = self._pids.get(service)
        if known is None and len(self._pids) >= _MOST:
            self._counters["services_not_watched"] += 1
            return
        self._pids[service] = health.pid
        self._heard_ns[service] = now_ns
        if known is None:
            self._happen(service, "started", "INFO", f"pid {health.pid}", now_ns)
        elif known != health.pid:
            self._happen(service, "restarted", "WARNING", f"pid {health.pid} after {known}", now_ns)
            for key in [key for key in self._others if key[0] == service]:
                self._end(self._others.pop(key), "its process ended")
        self._change((service, _SILENT), "ALARM", None, now_ns)
        if service != OWN and health.state in {"READY", "DEGRADED"}:
            detail = (health.detail or "without a reason") if health.state == "DEGRADED" else None
            self._change((service, _DEGRADED), "WARNING", detail, now_ns)

    def say(self, name: str, severity: Severity, detail: str | None, now_ns: int) -> None:
        """Say that a condition of storage's own is on, and why; None: that it is off."""
        self._change((OWN, name), severity, detail, now_ns)

    def saw(self, event: Event) -> None:
        """See an event that its service sent itself."""
        key = (event.service, event.name)
        if event.state == "BEGAN" and (key in self._others or len(self._others) < _MOST):
            self._others[key] = event
        elif event.state == "ENDED":
            self._others.pop(key, None)

    def tick(self, now_ns: int) -> None:
        """Notice who is silent, and tell what there is room for again."""
        if now_ns - self._tick_ns > _STALLED_NS:
            self._heard_ns = dict.fromkeys(self._heard_ns, now_ns)
        self._tick_ns = now_ns
        for service, heard_ns in self._heard_ns.items():
            if now_ns - heard_ns > _SILENT_NS:
                self._change((service, _SILENT), "ALARM", "not heard of for 3 s", now_ns)
        for key, told in self._told.items():
            if told.held_back:
                self._tell(key, told, now_ns)

    def _change(self, key: _Key, severity: Severity, detail: str | None, now_ns: int) -> None:
        told = self._told.get(key)
        if told is None:
            if detail is None:
                return
            told = self._told.setdefault(key, _Told())
        if detail is not None:
            detail = detail[:_LONGEST_DETAIL]
        if _words(key, told.detail) == _words(key, detail):
            return
        told.severity, told.detail = severity, detail
        if told.has_room(now_ns):
            self._tell(key, told, now_ns)
        else:
            told.held_back += 1
            self._counters["events_held_back"] += 1

    def _tell(self, key: _Key, told: _Told, now_ns: int) -> None:
        """Tell how a condition is, if that is not what was told last."""
        if not told.has_room(now_ns) or _words(key, told.said) == _words(key, told.detail):
            return
        also = told.told(now_ns)
        if told.beginning is not None:
            self._end(told.beginning, also)
            told.beginning, also = None, ""
        told.said = told.detail
        if told.detail is not None:
            detail = f"{told.detail} ({also})" if also else told.detail
            told.beginning = events.began(self._station, *key, told.severity, detail)
            self._news.append(told.beginning)

    def _end(self, beginning: Event, detail: str) -> None:
        end = events.ended(beginning, detail)
        self._ending[end.event_id] = beginning
        self._news.append(end)

    def _happen(self, service: str, name: str, severity: Severity, detail: str, now_ns: int) -> None:
        told = self._told.setdefault((service, name), _Told())
        if told.has_room(now_ns):
            also = told.told(now_ns)
            detail = f"{detail} ({also})" if also else detail
            self._news.append(events.happened(self._station, service, name, severity, detail))
        else:
            told.held_back += 1
            self._counters["events_held_back"] += 1


def _words(key: _Key, detail: str | None) -> str | None:
    """Return what is news of a detail when it changes: of what has a name, nothing; else the words, not the numbers."""
    if detail is None:
        return None
    return _NUMBER.sub("#", detail) if key[1] == _DEGRADED else ""
