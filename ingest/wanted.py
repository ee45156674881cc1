"""Which judged parts somebody wants every pixel of, beyond what their recipe keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.errors import ConfigurationError
from config.log import Condition

if TYPE_CHECKING:
    from collections import Counter

    from config.messages import Verdict
    from config.wishes import Wish, Wishes

_LOOK_NS = 500_000_000


class Wanted:
    """The wishes as far as they are about one camera, each with what it has had."""

    def __init__(self, wishes: Wishes, camera: str, counters: Counter[str]) -> None:
        self._wishes = wishes
        self._camera = camera
        self._counters = counters
        self._unreadable = Condition("wishes_unreadable", counters)
        self._due_ns = 0
        self._open: tuple[Wish, ...] = ()
        self._had: dict[str, int] = {}  # by the wish's name

    def look(self, now_ns: int) -> None:
        """See, twice a second, what is wanted."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _LOOK_NS
        try:
            found = self._wishes.read()
        except (ConfigurationError, OSError) as error:
            self._unreadable.occur(error=str(error))
            self._open = ()
            return
        self._unreadable.end()
        self._open = tuple(wish for wish in found if wish.camera == self._camera and now_ns < wish.until_ns)
        self._had = {wish.name: self._had.get(wish.name, 0) for wish in self._open}

    def takes(self, verdict: Verdict) -> bool:
        """Tell whether a judged part is wanted, and count it for each wish that means it."""
        meant = [
            wish
            for wish in self._open
            if self._had[wish.name] < wish.most and wish.means(verdict.recipe, verdict.verdict, verdict.sequence)
        ]
        for wish in meant:
            self._had[wish.name] += 1
        self._counters["wanted"] += bool(meant)
        return bool(meant)
