"""When which part of a simulated line is in front of the cameras: pure arithmetic on the clock.

The belt does not wait: whoever comes back after an outage computes where the line is by now. Cameras and PLC simulator
share nothing but this and the start file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.station import SimulationSection


@dataclass(frozen=True)
class Schedule:
    """Parts 0, 1, 2, … of a line that started at `start_ns` (monotonic); `parts` is None for an endless line."""

    simulation: SimulationSection
    start_ns: int
    parts: int | None

    @property
    def period_ns(self) -> int:
        """Time between two parts."""
        return round(1e9 / self.simulation.rate_per_s)

    @property
    def gate_travel_ns(self) -> int:
        """Time from the cameras to the gate."""
        return round(self.simulation.gate_travel_s * 1e9)

    def time_ns(self, sequence: int) -> int:
        """Return when part `sequence` is in front of the cameras."""
        return self.start_ns + sequence * self.period_ns + self._run(sequence) * self._pause_ns

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
        if now_ns < self.start_ns:
            return -1
        every = self._every
        elapsed_ns = now_ns - self.start_ns
        if every:
            run_ns = every * self.period_ns + self._pause_ns
            run, within_ns = divmod(elapsed_ns, run_ns)
            sequence = run * every + min(within_ns // self.period_ns, every - 1)
        else:
            sequence = elapsed_ns // self.period_ns
        return min(sequence, self.parts - 1) if self.parts is not None else sequence

    @property
    def _every(self) -> int:
        return self.simulation.changeover_every_parts if len(self.simulation.products) > 1 else 0

    @property
    def _pause_ns(self) -> int:
        return round(self.simulation.changeover_pause_s * 1e9)

    def _run(self, sequence: int) -> int:
        return sequence // self._every if self._every else 0
