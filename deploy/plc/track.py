"""The simulated belt of a station that drives its own gates, from the coupler's side: what inputs and counters show.

Pure: the time is an argument, and the belt is moved on whenever anybody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from config.errors import ConfigurationError
from config.gates import EjectedSensor, GateSection, PartSensor
from config.messages import Truth
from config.schedule import Schedule
from config.station import SimulationSection, Station
from deploy.plc.belt import Tally

_PULSES = 1.5  # how long an input is on, in shortest pulses of its sensor


@dataclass
class _Part:
    sequence: int
    way_mm: float  # of the belt when it was in front of the cameras
    passed: set[tuple[int, str]] = field(default_factory=set)  # gate and place


def speed_mm_s(station: Station, simulation: SimulationSection) -> float:
    """Return the belt's full speed; raise ConfigurationError where the station's tables do not agree on it."""
    if station.belt is not None:
        if simulation.slowest_speed != 1 or simulation.longest_stop_s:
            raise ConfigurationError("simulation: slowest_speed, longest_stop_s: a [belt] has one speed")
        return station.belt.speed_mm_s
    farthest_mm = station.gates[-1].distance_mm
    found = farthest_mm / simulation.gate_travel_s
    if station.encoder is not None and found > station.encoder.top_speed_mm_s:
        least_s = farthest_mm / station.encoder.top_speed_mm_s
        raise ConfigurationError(
            f"simulation: gate_travel_s {simulation.gate_travel_s:g}: the belt would run at {found:.0f} mm/s to the "
            f"last gate, {farthest_mm:g} mm away; encoder.top_speed_mm_s allows {least_s:.2f} s or more"
        )
    return found


class Track:
    """Parts between cameras and the last gate, the sensors that they pass, and the gates as their outputs stand."""

    schedule: Schedule  # from `begin` on
    tally: Tally

    def __init__(self, station: Station, simulation: SimulationSection, counter_bits: tuple[int, ...]) -> None:
        """Stand still until the line starts; raise ConfigurationError where the tables do not agree."""
        self._gates = station.gates
        self._encoder = station.encoder
        self._mm_per_ns = speed_mm_s(station, simulation) / 1e9
        self._bits = counter_bits
        self._offset_mm = 0.0
        self._next = 0
        self._parts: list[_Part] = []
        self._falling: list[tuple[int, EjectedSensor]] = []
        self._on_until_ns: dict[int, int] = {}  # input -> when it goes off
        self._counted = [0] * len(counter_bits)
        self._way_mm = self._zero_mm = 0.0
        self._moved_ns: int | None = None
        self.outputs: tuple[bool, ...] = ()
        self._truth: Callable[[int, Schedule], Truth | None] | None = None
        self.log: TextIO | None = None

    def begin(
        self,
        schedule: Schedule,
        tally: Tally,
        truth: Callable[[int, Schedule], Truth | None] | None,
        now_ns: int,
    ) -> None:
        """Let the line start; parts that have been at the cameras already are on their way."""
        self.schedule, self.tally, self._truth = schedule, tally, truth
        self._offset_mm = -self._place_mm(now_ns)
        self._next = tally.parts
        self._moved_ns = now_ns

    def move(self, now_ns: int) -> None:
        """Go on to a moment: parts pass sensors, and gates as they stand now."""
        if self._moved_ns is None or now_ns <= self._moved_ns:
            return
        self.tally.gate_late_max_ms = max(self.tally.gate_late_max_ms, round((now_ns - self._moved_ns) / 1e6, 3))
        self._moved_ns = now_ns
        self._way_mm = self._offset_mm + self._place_mm(now_ns)
        latest = self.schedule.latest(now_ns)
        while self._next <= latest:
            at_mm = self._offset_mm + self.schedule.place_of(self._next) * self._mm_per_ns
            self._parts.append(_Part(self._next, at_mm))
            self._next += 1
        self._parts = [part for part in self._parts if not self._follow(part, now_ns)]
        for due_ns, sensor in [fall for fall in self._falling if fall[0] <= now_ns]:
            self._falling.remove((due_ns, sensor))
            self._sense(sensor, now_ns)

    def input(self, number: int, now_ns: int) -> bool:
        """Tell whether an input is on."""
        return now_ns < self._on_until_ns.get(number, 0)

    def count(self, number: int) -> int:
        """Return what a counter shows."""
        found = self._counted[number]
        if self._encoder is not None and self._encoder.counter == number:
            found = int((self._way_mm - self._zero_mm) / self._encoder.mm_per_count)
        return found % (1 << self._bits[number])

    def reset(self) -> None:
        """Begin to count at 0, as a coupler does that was off."""
        self._counted = [0] * len(self._bits)
        self._zero_mm = self._way_mm

    def _place_mm(self, now_ns: int) -> float:
        return self.schedule.place_ns(now_ns) * self._mm_per_ns

    def _follow(self, part: _Part, now_ns: int) -> bool:
        """Let a part pass what it has come to; return whether it has left the belt."""
        for index, gate in enumerate(self._gates):
            if gate.part is not None and self._comes(part, (index, "sensor"), gate.part.distance_mm):
                self._sense(gate.part, now_ns)
            if self._comes(part, (index, "gate"), gate.distance_mm) and self._strikes(gate):
                if gate.ejected is not None:
                    self._falling.append((now_ns + round(gate.ejected.after_ms * 1e6), gate.ejected))
                return self._leave(part, passes=False)
        done = (len(self._gates) - 1, "gate") in part.passed
        return self._leave(part, passes=True) if done else False

    def _comes(self, part: _Part, place: tuple[int, str], distance_mm: float) -> bool:
        if place in part.passed or self._way_mm < part.way_mm + distance_mm:
            return False
        part.passed.add(place)
        return True

    def _strikes(self, gate: GateSection) -> bool:
        on = gate.output < len(self.outputs) and self.outputs[gate.output]
        return on != (gate.at_rest == "eject")

    def _leave(self, part: _Part, *, passes: bool) -> bool:
        truth = self._truth(part.sequence, self.schedule) if self._truth else None
        self.tally.passed += passes
        self.tally.ejected += not passes
        self.tally.bad_passed += passes and truth is not None and not truth.good
        self.tally.good_ejected += not passes and truth is not None and truth.good
        if self.log is not None:
            self.log.write(f"{part.sequence},,{'PASSED' if passes else 'EJECTED'}\n")
        return True

    def _sense(self, sensor: PartSensor | EjectedSensor, now_ns: int) -> None:
        if sensor.input is not None:
            self._on_until_ns[sensor.input] = now_ns + round(_PULSES * sensor.pulse_ms * 1e6)
        elif sensor.counter is not None:
            self._counted[sensor.counter] += 1
