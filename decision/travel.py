"""Where the belt is: an encoder's counts as a way, and the way at any moment of the last seconds. Pure.

A way is a coordinate of the belt in mm: a part that was in front of the cameras at way x is at a gate when the belt is
at x + distance_mm. It never needs the belt's speed, so that stops and changes of speed change nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right

_KEPT_NS = 10_000_000_000
_UNREAD_NS = 1_000_000_000  # an encoder that was not read for so long may have been switched off and on meanwhile
_UNCERTAIN_NS = 50_000_000  # between two samples: speed may have changed, interpolation is a guess
_AHEAD_NS = 20_000_000  # the belt is taken to keep its speed for so long, no longer
_SPEED_NS = 20_000_000  # speed is taken over so long
_STILL_NS = 200_000_000
_FASTER = 1.1


class Encoder:
    """Make a way of a counter that wraps round, may run backwards, and may be reset by whoever likes."""

    def __init__(self, bits: int, mm_per_count: float, top_speed_mm_s: float, precision_mm: float) -> None:
        """Take the counter's width; the way begins at 0 and grows as the belt runs forward.

        The way need not be known better than `precision_mm`: the belt may run backwards by so much, as one does that
        swings when it stops, and a reading may be older or newer than it says by what the belt runs in that time.
        """
        self._range = 1 << bits
        self._mm_per_count = mm_per_count
        self._top_mm_per_ns = top_speed_mm_s / 1e9
        self._precision_mm = precision_mm
        self._last: tuple[int, int] | None = None  # count, time
        self._farthest_mm = 0.0
        self.way_mm = 0.0

    def read(self, count: int, time_ns: int) -> str | None:
        """Follow the counter to `count`; return why the way since the last reading is unknown, if it is.

        After an unknown way, `way_mm` goes on from where it was.
        """
        last, self._last = self._last, (count, time_ns)
        if last is None:
            return None
        elapsed_ns = time_ns - last[1]
        half = self._range // 2
        step = (count - last[0] + half) % self._range - half
        most_mm = _FASTER * self._top_mm_per_ns * elapsed_ns + self._precision_mm
        if elapsed_ns > _UNREAD_NS:
            return f"the encoder was not read for {elapsed_ns / 1e9:.1f} s"
        if most_mm >= half * abs(self._mm_per_count):
            return f"the encoder was not read for {elapsed_ns / 1e6:.0f} ms: its counter may have wrapped round"
        if abs(step * self._mm_per_count) > most_mm:
            return (
                f"the encoder jumped from {last[0]} to {count} in {elapsed_ns / 1e6:.0f} ms: "
                f"the belt moves {most_mm:.1f} mm in that time at most"
            )
        self.way_mm += step * self._mm_per_count
        self._farthest_mm = max(self._farthest_mm, self.way_mm)
        back_mm = self._farthest_mm - self.way_mm
        if back_mm > self._precision_mm:
            self._farthest_mm = self.way_mm
            return f"the belt ran backwards by {back_mm:.1f} mm"
        return None


class Travel:
    """The belt's way over time, between samples and a little beyond the last."""

    def __init__(self, precision_mm: float) -> None:
        """Be sure of a way where samples around it are not farther apart than `precision_mm`, or near in time."""
        self._precision_mm = precision_mm
        self._times_ns: list[int] = []
        self._ways_mm: list[float] = []

    def add(self, time_ns: int, way_mm: float) -> None:
        """Take a sample; times rise."""
        self._times_ns.append(time_ns)
        self._ways_mm.append(way_mm)
        old = bisect_right(self._times_ns, time_ns - 2 * _KEPT_NS)
        if old > len(self._times_ns) // 2:
            del self._times_ns[:old], self._ways_mm[:old]

    def forget(self) -> None:
        """Forget all samples: what comes next has nothing to do with them."""
        self._times_ns.clear()
        self._ways_mm.clear()

    def between(self, time_ns: int) -> tuple[float, float]:
        """Return the least and the greatest way that the belt can have had at a time; equal where that is known."""
        after = bisect_right(self._times_ns, time_ns)
        if after == 0:
            return -math.inf, self._ways_mm[0] if self._ways_mm else math.inf
        if after == len(self._times_ns):
            way_mm = self._ahead_mm(time_ns)
            return way_mm, way_mm
        (first_ns, second_ns), (first_mm, second_mm) = (
            self._times_ns[after - 1 : after + 1],
            self._ways_mm[after - 1 : after + 1],
        )
        if second_ns - first_ns > _UNCERTAIN_NS and abs(second_mm - first_mm) > self._precision_mm:
            return min(first_mm, second_mm), max(first_mm, second_mm)
        way_mm = first_mm + (second_mm - first_mm) * (time_ns - first_ns) / (second_ns - first_ns)
        return way_mm, way_mm

    def when(self, way_mm: float) -> int | None:
        """Return when the belt will be at a way if it keeps its speed; None where it stands or has no sample."""
        speed = self._mm_per_ns()
        if speed <= 0:
            return None
        return self._times_ns[-1] + math.ceil((way_mm - self._ways_mm[-1]) / speed)

    def stood(self, time_ns: int) -> bool:
        """Tell whether the belt is known to have stood still for the 0.2 s before a time."""
        since = bisect_right(self._times_ns, time_ns - _STILL_NS)
        until = bisect_right(self._times_ns, time_ns)
        ways_mm = self._ways_mm[since - 1 : until] if since else []
        return len(ways_mm) > 1 and min(ways_mm) == max(ways_mm)

    def _ahead_mm(self, time_ns: int) -> float:
        ahead_ns = min(time_ns - self._times_ns[-1], _AHEAD_NS)
        return self._ways_mm[-1] + self._mm_per_ns() * ahead_ns

    def _mm_per_ns(self) -> float:
        if len(self._times_ns) < 2:  # noqa: PLR2004 - a speed takes two samples
            return 0.0
        first = max(0, min(bisect_right(self._times_ns, self._times_ns[-1] - _SPEED_NS) - 1, len(self._times_ns) - 2))
        elapsed_ns = self._times_ns[-1] - self._times_ns[first]
        return (self._ways_mm[-1] - self._ways_mm[first]) / elapsed_ns if elapsed_ns else 0.0
