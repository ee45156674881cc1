"""What the inputs say of parts: edges and counts as sightings for the tracker, levels as full bins. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from config.gates import GateSection
from decision.coupler import Inputs
from decision.tracker import Tracker

_MOST_AT_ONCE = 100  # more ejections than these between two readings are a counter that was reset


class Sensors:
    """The sensors of all gates, between one reading and the next."""

    def __init__(self, gates: Sequence[GateSection], counter_bits: Sequence[int], tracker: Tracker) -> None:
        """Tell `tracker` what they see."""
        self._gates = gates
        self._counter_bits = counter_bits
        self._tracker = tracker
        self._last: tuple[Inputs, float] | None = None
        self.full_bins: frozenset[str] = frozenset()  # names of gates

    def forget(self) -> None:
        """Take the next reading as it is: what changed before it was not seen."""
        self._last = None

    def take(self, inputs: Inputs, way_mm: float) -> None:
        """Take a reading, made when the belt was at a way."""
        last, self._last = self._last, (inputs, way_mm)
        self.full_bins = frozenset(
            gate.name for gate in self._gates if gate.bin_full_input is not None and inputs.bits[gate.bin_full_input]
        )
        if last is None:
            return
        before, before_mm = last
        for index, gate in enumerate(self._gates):
            if gate.part is not None and _rose(before, inputs, gate.part.input):
                self._tracker.part_seen(index, min(before_mm, way_mm), max(before_mm, way_mm))
            for _ in range(self._ejections(gate, before, inputs)):
                self._tracker.ejected_seen(index, inputs.read_ns)

    def _ejections(self, gate: GateSection, before: Inputs, inputs: Inputs) -> int:
        sensor = gate.ejected
        if sensor is None:
            return 0
        if sensor.input is not None:
            return int(_rose(before, inputs, sensor.input))
        number = sensor.counter or 0
        step = (inputs.counts[number] - before.counts[number]) % (1 << self._counter_bits[number])
        return step if step <= _MOST_AT_ONCE else 0


def _rose(before: Inputs, inputs: Inputs, number: int) -> bool:
    return inputs.bits[number] and not before.bits[number]
