"""When which part of a simulated line is in front of the cameras and at the gate: pure arithmetic on the clock.

The belt does not wait: whoever comes back after an outage computes where the line is by now. Cameras and PLC simulator
share nothing but this, the start file and the belt's holds.

Places on the belt are measured by the time that the belt at full speed takes for the way there, in ns.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from config.station import SimulationSection

NEVER_NS: Final = 1 << 62
_SPEEDS: Final = 64  # after so many the profile begins again
_SPEEDS_TO_A_STOP: Final = 4


@dataclass(frozen=True)
class Hold:
    """The belt stands still from `begin_ns` to `end_ns` (monotonic); None: until it is restarted."""

    begin_ns: int
    end_ns: int | None = None


@dataclass(frozen=True)
class Profile:
    """How a belt moves: pieces of constant speed, over and over.

    Piece k ends at place `places_ns[k]`, `times_ns[k]` after the start; in a stop the place stays. All of it is exact:
    a place is reached by a time if, and only if, its own time is not later.
    """

    places_ns: tuple[int, ...]
    times_ns: tuple[int, ...]

    def time_ns(self, place_ns: int) -> int:
        """Return the first moment at which the belt has come to a place (0 or more)."""
        rounds, within_ns = divmod(place_ns, self.places_ns[-1])
        if within_ns == 0:
            if rounds == 0:
                return 0
            rounds, within_ns = rounds - 1, self.places_ns[-1]  # its end comes before a stop that may stand there
        piece = bisect_left(self.places_ns, within_ns)
        place, time, length, lasts = self._piece(piece)
        return rounds * self.times_ns[-1] + time - (place - within_ns) * lasts // length

    def place_ns(self, time_ns: int) -> int:
        """Return how far the belt has come by a moment (0 or more)."""
        rounds, within_ns = divmod(time_ns, self.times_ns[-1])
        piece = bisect_right(self.times_ns, within_ns)
        place, time, length, lasts = self._piece(piece)
        return rounds * self.places_ns[-1] + place + (within_ns - time) * length // lasts

    def _piece(self, piece: int) -> tuple[int, int, int, int]:
        """Return where and when a piece ends, how long it is and how long it lasts."""
        place, time = self.places_ns[piece], self.times_ns[piece]
        if piece == 0:
            return place, time, place, time
        return place, time, place - self.places_ns[piece - 1], time - self.times_ns[piece - 1]


@lru_cache(maxsize=16)
def profile(seed: int, slowest_speed: float, speed_change_s: float, longest_stop_s: float) -> Profile:
    """Return a random profile, the same for the same arguments."""
    choice = random.Random(seed).random  # noqa: S311 - a world, no secret; random() alone is the same in every Python
    lengths, lasting = [], []
    for number in range(_SPEEDS):
        length_ns = round(1e9 * speed_change_s * (0.5 + choice()))
        speed = slowest_speed + (1 - slowest_speed) * choice()
        lengths.append(length_ns)
        lasting.append(max(length_ns, round(length_ns / speed)))
        if longest_stop_s > 0 and number % _SPEEDS_TO_A_STOP == _SPEEDS_TO_A_STOP - 1:
            lengths.append(0)
            lasting.append(1 + round(1e9 * longest_stop_s * choice()))
    return Profile(tuple(accumulate(lengths)), tuple(accumulate(lasting)))


@dataclass(frozen=True)
class Schedule:
    """Parts 0, 1, 2, … of a line that started at `start_ns` (monotonic); `parts` is None for an endless line.

    `holds` are the times at which the PLC held the belt, in order.
    """

    simulation: SimulationSection
    start_ns: int
    parts: int | None
    holds: tuple[Hold, ...] = ()

    @property
    def period_ns(self) -> int:
        """Time between two parts at full speed."""
        return round(1e9 / self.simulation.rate_per_s)

    @property
    def gate_travel_ns(self) -> int:
        """Time from the cameras to the gate at full speed: the shortest."""
        return round(self.simulation.gate_travel_s * 1e9)

    def time_ns(self, sequence: int) -> int:
        """Return when part `sequence` is in front of the cameras; NEVER_NS or later while the belt is held."""
        return self._time_ns(self.place_of(sequence))

    def gate_ns(self, sequence: int) -> int:
        """Return when part `sequence` is at the gate; NEVER_NS or later while the belt is held."""
        return self._time_ns(self.place_of(sequence) + self.gate_travel_ns)

    def product(self, sequence: int) -> str:
        """Return the recipe name of the product that part `sequence` is."""
        products = self.simulation.products
        return products[self._run(sequence) % len(products)]

    def challenges(self, sequence: int) -> bool:
        """Tell whether part `sequence` is a challenge part, which is bad on purpose: the last of every so many."""
        every = self.simulation.challenge_every_parts
        return every > 0 and (sequence + 1) % every == 0

    def latest(self, now_ns: int) -> int:
        """Return the last part that has been in front of the cameras by `now_ns`, or -1."""
        place_ns = self.place_ns(now_ns)
        if place_ns < 0:
            return -1
        every = self._every
        if every:
            run_ns = every * self.period_ns + self._pause_ns
            run, within_ns = divmod(place_ns, run_ns)
            sequence = run * every + min(within_ns // self.period_ns, every - 1)
        else:
            sequence = place_ns // self.period_ns
        return min(sequence, self.parts - 1) if self.parts is not None else sequence

    def place_ns(self, now_ns: int) -> int:
        """Return how far the belt has come; before the line starts it runs at full speed, towards 0."""
        running_ns = self._running_ns(now_ns) - self.start_ns
        moves = self._profile
        return running_ns if moves is None or running_ns < 0 else moves.place_ns(running_ns)

    def place_of(self, sequence: int) -> int:
        """Return how far the belt goes until a part is in front of the cameras."""
        return sequence * self.period_ns + self._run(sequence) * self._pause_ns

    def _time_ns(self, place_ns: int) -> int:
        moves = self._profile
        found_ns = self.start_ns + (place_ns if moves is None else moves.time_ns(place_ns))
        for hold in self.holds:
            if found_ns < hold.begin_ns:
                break
            if hold.end_ns is None:
                return found_ns + NEVER_NS
            found_ns += hold.end_ns - hold.begin_ns
        return found_ns

    def _running_ns(self, now_ns: int) -> int:
        """Return the time that it would be if the belt had never been held."""
        held_ns = 0
        for hold in self.holds:
            if now_ns < hold.begin_ns:
                break
            if hold.end_ns is None or now_ns < hold.end_ns:
                return hold.begin_ns - 1 - held_ns
            held_ns += hold.end_ns - hold.begin_ns
        return now_ns - held_ns

    @property
    def _profile(self) -> Profile | None:
        """Return how the belt moves; None at full speed all the time."""
        given = self.simulation
        if given.slowest_speed == 1 and given.longest_stop_s == 0:
            return None
        return profile(given.seed, given.slowest_speed, given.speed_change_s, given.longest_stop_s)

    @property
    def _every(self) -> int:
        return self.simulation.changeover_every_parts if len(self.simulation.products) > 1 else 0

    @property
    def _pause_ns(self) -> int:
        return round(self.simulation.changeover_pause_s * 1e9)

    def _run(self, sequence: int) -> int:
        return sequence // self._every if self._every else 0
