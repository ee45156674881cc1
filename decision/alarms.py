"""What people hear of the line as events: alarms when they begin and when they end, and what merely happened."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from config import events
from config.events import Severity
from config.log import Condition
from config.messages import Event

_SERVICE = "decision"
_MOST = 1000  # what waits while storage takes nothing


class Happenings:
    """What happened and has no duration, until storage can be told of it; whoever notes it has counted it."""

    def __init__(self, station: str, counters: Counter[str]) -> None:
        self._station = station
        self._counters = counters
        self._waiting: deque[Event] = deque()

    def note(self, name: str, detail: str) -> None:
        """Keep an event of now, a WARNING; the oldest one that waits gives way where there are too many."""
        self._waiting.append(events.happened(self._station, _SERVICE, name, "WARNING", detail))
        if len(self._waiting) > _MOST:
            self._waiting.popleft()
            self._counters["events_lost"] += 1

    def events(self) -> list[Event]:
        """Return what has happened since the last call, oldest first."""
        happened = list(self._waiting)
        self._waiting.clear()
        return happened


class Alarms:
    """What is on, as it was told last: each with an event when it begins and ends.

    With `counters` each has a counter and its log lines, too; without, whoever says what is on has seen to them.
    """

    def __init__(self, station: str, counters: Counter[str] | None = None, severity: Severity = "ALARM") -> None:
        self._severity = severity
        self._station = station
        self._counters = counters
        self._conditions: dict[str, Condition] = {}
        self._beginnings: dict[str, Event] = {}

    def update(self, on: Mapping[str, str]) -> list[Event]:
        """Take what is on now, each alarm's name with what to say of it; return the events of what has changed."""
        news = []
        for name in [name for name in self._beginnings if name not in on]:
            if name in self._conditions:
                self._conditions[name].end()
            news.append(events.ended(self._beginnings.pop(name)))
        for name in [name for name in on if name not in self._beginnings]:
            if self._counters is not None:
                self._conditions.setdefault(name, Condition(name, self._counters)).occur(why=on[name])
            self._beginnings[name] = events.began(self._station, _SERVICE, name, self._severity, on[name])
            news.append(self._beginnings[name])
        return news
