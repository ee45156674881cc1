"""Who has which parts before them: what one reviewer was given is not handed to another for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

LIFE_S = 60.0


class Claims:
    """Parts that were handed to people, forgotten when they are done with or a minute old; any thread may ask.

    They are in memory only: two people who get the same part after all both say what they find, and both count.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._held: dict[str, tuple[str, float]] = {}  # part -> person, and until when
        self._lock = threading.Lock()

    def of_others(self, person: str) -> set[str]:
        """Return the parts that somebody else has."""
        with self._lock:
            self._forget()
            return {part_id for part_id, (holder, _) in self._held.items() if holder != person}

    def take(self, person: str, part_ids: Iterable[str]) -> list[str]:
        """Hand parts to a person, but those that somebody else has got meanwhile; return them."""
        with self._lock:
            self._forget()
            free = [part_id for part_id in part_ids if self._held.get(part_id, (person, 0))[0] == person]
            self._held.update(dict.fromkeys(free, (person, self._now_s() + LIFE_S)))
            return free

    def release(self, person: str, part_id: str) -> None:
        """Note that a person is done with a part, and is at work: the others stay theirs for another minute."""
        with self._lock:
            self._forget()
            if self._held.get(part_id, ("", 0))[0] == person:
                del self._held[part_id]
            until_s = self._now_s() + LIFE_S
            for held, (holder, _) in self._held.items():
                if holder == person:
                    self._held[held] = (person, until_s)

    def _forget(self) -> None:
        now_s = self._now_s()
        self._held = {part_id: held for part_id, held in self._held.items() if held[1] > now_s}
