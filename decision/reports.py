"""What becomes of each part at the gate: a report for every verdict, once its end is known or will never be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.messages import GateOutcome, GateReport, Verdict

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from decision.records import Records

_LATEST_NS = 3_000_000_000  # after the part should have reached the gate


@dataclass
class AtGate:
    """A part whose gate report is still to come."""

    verdict: Verdict
    expires_ns: int
    written_ns: int | None = None
    finished: bool = False  # the station's own gates know all that they ever will
    outcome: GateOutcome | None = None


class GateReports:
    """The parts on their way to the gate, in the order of their verdicts."""

    def __init__(self, records: Records, counters: Counter[str], travel_ns: int, *, own_gates: bool) -> None:
        """Expect a part at the gate `travel_ns` after its trigger; its `own_gates` tell the end themselves."""
        self._records = records
        self._counters = counters
        self._travel_ns = travel_ns
        self._own_gates = own_gates
        self._parts: dict[str, AtGate] = {}
        self._by_sequence: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, part_id: str) -> bool:
        return part_id in self._parts

    def open(self, now_ns: int) -> Iterator[AtGate]:
        """Yield the parts that may not have passed the gate yet."""
        yield from (part for part in self._parts.values() if self._own_gates or part.expires_ns > now_ns)

    def expect(self, verdict: Verdict) -> AtGate:
        """Wait for the end of a part that has been judged."""
        part = AtGate(verdict, verdict.trigger_ns + self._travel_ns)
        self._parts[verdict.part_id] = part
        self._by_sequence[verdict.sequence] = verdict.part_id
        return part

    def forget(self, part_id: str) -> None:
        """Expect nothing more of a part."""
        part = self._parts.pop(part_id, None)
        if part is not None:
            self._by_sequence.pop(part.verdict.sequence, None)

    def written(self, part_id: str, written_ns: int) -> None:
        """Note that the gate has taken the command."""
        if part_id in self._parts:
            self._parts[part_id].written_ns = written_ns
            self._counters["gate_commands"] += 1

    def missed(self, part_id: str) -> None:
        """Note that the command came to nothing."""
        if part_id in self._parts:
            self._parts[part_id].written_ns = None

    def seen(self, sequence: int, outcome: GateOutcome) -> None:
        """Report what the PLC saw."""
        part = self._parts.get(self._by_sequence.get(sequence, ""))
        if part is not None:
            part.outcome = outcome
            self._report(part)

    def finish(self, part_id: str, outcome: GateOutcome | None) -> None:
        """Report what the station's own gates know of a part that is expected."""
        part = self._parts[part_id]
        part.finished, part.outcome = True, outcome
        self._report(part)

    def tick(self, now_ns: int) -> None:
        """Report the parts whose end will not be known any more, and those for which there was no room before."""
        for part in list(self._parts.values()):
            if not part.finished and (self._own_gates or now_ns < part.expires_ns + _LATEST_NS):
                break
            self._report(part)

    def _report(self, part: AtGate) -> None:
        report = GateReport(
            part_id=part.verdict.part_id,
            trigger_time_ns=part.verdict.trigger_time_ns,
            command=part.verdict.gate,
            written_ns=part.written_ns,
            outcome=part.outcome,
            reported_ns=time.monotonic_ns(),
        )
        if self._records.deliver(report):
            self.forget(report.part_id)
            self._counters["gate_reports"] += 1
