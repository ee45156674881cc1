"""Alarms of the line as people hear of them: a log line, a counter and an event when each begins and when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from config import events
from config.events import Severity
from config.log import Condition
from config.messages import Event

_SERVICE = "decision"


class Alarms:
    """What is on, as it was told last."""

    def __init__(self, station: str, counters: Counter[str], severity: Severity = "ALARM") -> None:
        self._severity = severity
        self._station = station
        self._counters = counters
        self._conditions: dict[str, Condition] = {}
        self._beginnings: dict[str, Event] = {}

    def update(self, on: Mapping[str, str]) -> list[Event]:
        """Take what is on now, each alarm's name with what to say of it; return the events of what has changed."""
        news = []
        for name in [name for name in self._beginnings if name not in on]:
            self._conditions[name].end()
            news.append(events.ended(self._beginnings.pop(name)))
        for name in [name for name in on if name not in self._beginnings]:
            self._conditions.setdefault(name, Condition(name, self._counters)).occur(why=on[name])
            self._beginnings[name] = events.began(self._station, _SERVICE, name, self._severity, on[name])
            news.append(self._beginnings[name])
        return news
