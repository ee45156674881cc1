"""The monotonic clock of another machine, as far as it can be told from here (Cristian, Distributed Computing 3, 1989).

The other machine answers a question with its time; at some moment between question and answer it was so. Half of the
round trip bounds the error, and that grows with time as the clocks drift: the answer with the least bound counts.
"""

from __future__ import annotations

from dataclasses import dataclass

_DRIFT = 50e-6  # of two quartz clocks against each other


@dataclass(frozen=True)
class _Answer:
    offset_ns: int
    half_trip_ns: int
    came_ns: int

    def bound_ns(self, now_ns: int) -> float:
        return self.half_trip_ns + _DRIFT * (now_ns - self.came_ns)


class Clock:
    """How far the other machine's clock is ahead of ours."""

    def __init__(self) -> None:
        self._best: _Answer | None = None

    @property
    def offset_ns(self) -> int | None:
        """Return their time less ours; None before the first answer."""
        return self._best.offset_ns if self._best else None

    def answer(self, asked_ns: int, theirs_ns: int, now_ns: int) -> None:
        """Take the answer `theirs_ns` to a question asked at `asked_ns` of our clock, that has come at `now_ns`."""
        new, old = _Answer(theirs_ns - (asked_ns + now_ns) // 2, (now_ns - asked_ns + 1) // 2, now_ns), self._best
        if old is None or new.bound_ns(now_ns) <= old.bound_ns(now_ns):
            self._best = new
        elif abs(new.offset_ns - old.offset_ns) > new.bound_ns(now_ns) + old.bound_ns(now_ns) + 1:
            self._best = new  # both cannot be: the other machine was started again
