"""What the inputs say of parts: edges and counts as sightings for the tracker, levels as full bins. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from config.gates import EjectedSensor, GateSection, PartSensor
from decision.coupler import Inputs
from decision.tracker import Tracker

_MOST_AT_ONCE = 100  # more parts than these between two readings are a counter that was reset


class Sensors:
    """The sensors of all gates, between one reading and the next."""

    def __init__(self, gates: Sequence[GateSection], counter_bits: Sequence[int], tracker: Tracker) -> None:
        """Tell `tracker` what they see, and what they cannot have seen."""
        self._gates = gates
        self._counter_bits = counter_bits
        self._tracker = tracker
        self._last: tuple[Inputs, float] | None = None
        self._before_last_mm = 0.0
        self.full_bins: frozenset[str] = frozenset()  # names of gates

    def forget(self) -> None:
        """Take the next reading as it is: what changed before it was not seen."""
        self._last = None

    def take(self, inputs: Inputs, way_mm: float) -> None:
        """Take a reading, whose counters were read when the belt was at a way."""
        last, self._last = self._last, (inputs, way_mm)
        self.full_bins = frozenset(
            gate.name for gate in self._gates if gate.bin_full_input is not None and inputs.bits[gate.bin_full_input]
        )
        if last is None:
            self._before_last_mm = way_mm
            return
        before, before_mm = last
        unread_ns = inputs.bits_ns[1] - before.bits_ns[0]
        for index, gate in enumerate(self._gates):
            if gate.part is not None:
                # Bits are read before the counters: an edge may be as old as the reading before the last.
                since_mm = before_mm if gate.part.input is None else self._before_last_mm
                low_mm, high_mm = min(since_mm, way_mm), max(since_mm, way_mm)
                for _ in range(self._passed(gate.part, before, inputs)):
                    self._tracker.part_seen(index, low_mm, high_mm)
                if gate.part.pulse_ns is not None and unread_ns > gate.part.pulse_ns:
                    self._tracker.part_unwatched(index, low_mm, high_mm, unread_ns)
            if gate.ejected is not None:
                for _ in range(self._passed(gate.ejected, before, inputs)):
                    self._tracker.ejected_seen(index, inputs.read_ns)
                if gate.ejected.pulse_ns is not None and unread_ns > gate.ejected.pulse_ns:
                    self._tracker.ejected_unwatched(index, inputs.read_ns)
        self._before_last_mm = before_mm

    def _passed(self, sensor: PartSensor | EjectedSensor, before: Inputs, inputs: Inputs) -> int:
        """Return how many parts a sensor has seen between two readings."""
        if sensor.input is not None:
            return int(inputs.bits[sensor.input] and not before.bits[sensor.input])
        number = sensor.counter or 0
        step = (inputs.counts[number] - before.counts[number]) % (1 << self._counter_bits[number])
        return step if step <= _MOST_AT_ONCE else 0
