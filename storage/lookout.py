"""Storage's own events: the watch, its memory in the state folder, and what waits for the journal."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

from config import files
from config.errors import MessageError
from config.events import Severity
from config.log import Condition, logger
from config.messages import Event, Health, as_json, from_json
from storage.watch import Memory, Watch

_WAITING = 1000  # events, while the journal takes none
_AGAIN_NS = 500_000_000


class Lookout:
    """Watch the station's processes and storage itself; `due` gives the events that the journal should take now."""

    def __init__(self, folder: Path, station: str, run_id: str, counters: Counter[str]) -> None:
        """Go on from what `folder/watch.json` remembers."""
        self._file = folder / "watch.json"
        self._lost = Condition("events_lost", counters)
        self._forgetful = Condition("watch_not_remembered", counters)
        self._remembered = self._recall()
        self._watch = Watch(station, run_id, self._remembered, counters, time.monotonic_ns())
        self._waiting: deque[Event] = deque()
        self._due_ns = 0

    @property
    def on(self) -> tuple[Event, ...]:
        """The conditions that are on, as they began."""
        return self._watch.on

    def hear(self, health: Health) -> None:
        """Hear a process."""
        self._watch.take(health, time.monotonic_ns())

    def due(self, conditions: Iterable[tuple[str, Severity, str | None]], now_ns: int) -> list[Event]:
        """Return events for the journal, given storage's own conditions (name, severity, why it is on or None)."""
        for name, severity, detail in conditions:
            self._watch.say(name, severity, detail, now_ns)
        self._watch.tick(now_ns)
        self._waiting.extend(self._watch.news())
        while len(self._waiting) > _WAITING:
            lost = self._waiting.popleft()
            self._watch.journalled([lost])
            self._lost.occur(name=lost.name, of=lost.service)
        if not self._waiting or now_ns < self._due_ns:
            return []
        self._remember()
        due = list(self._waiting)
        self._waiting.clear()
        return due

    def journalled(self, event: Event) -> None:
        """Note that an event of ours is on disk."""
        self._watch.journalled([event])
        self._lost.end()
        self._remember()

    def refused(self, event: Event) -> None:
        """Bring an event of ours again a little later."""
        self._waiting.append(event)
        self._due_ns = time.monotonic_ns() + _AGAIN_NS

    def saw(self, event: Event) -> None:
        """Note an event that its service sent itself, once it is on disk."""
        self._watch.saw(event)
        self._remember()

    def _recall(self) -> Memory | None:
        try:
            return from_json(Memory, self._file.read_bytes()) if self._file.exists() else None
        except (OSError, MessageError) as error:
            logger().warning("which alarms were on is not known any more", error=str(error))
            return None

    def _remember(self) -> None:
        """Keep what the next process has to know, if it is not what is kept."""
        memory = self._watch.memory
        if memory == self._remembered:
            return
        try:
            files.write(self._file, as_json(memory))
        except OSError as error:
            self._forgetful.occur(error=str(error))
        else:
            self._remembered = memory
            self._forgetful.end()
