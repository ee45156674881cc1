"""The simulated line from the PLC's side: which part is at the gate when, and what a gate at rest does. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from config.messages import GateCommand, GateOutcome
from config.schedule import Schedule
from decision.gate import StationState
from decision.registers import Outcome, Result

_BLIND_NS = 100_000_000  # a gate moment missed by more passed while the PLC was dead
_HEARTBEAT_LOST_NS = 500_000_000


class Tally(BaseModel):
    """What the PLC saw in one run; parts = passed + ejected + unseen."""

    model_config = ConfigDict(extra="forbid")
    run_id: str
    passed: int = 0
    ejected: int = 0
    ejected_unjudged: int = 0  # among the ejected: no result of that part was there
    unseen: int = 0  # reached the gate while the PLC was dead: at rest, it ejected them
    stop_requests: int = 0
    heartbeat_losses: int = 0
    gate_late_max_ms: float = 0.0  # how far behind its moment the simulator itself moved the gate

    @property
    def parts(self) -> int:
        """Return how many parts have reached the gate; so also the sequence of the next one."""
        return self.passed + self.ejected + self.unseen


class Belt:
    """Parts on their way from the cameras to the gate; the gate opens for a PASS of that very part and nothing else."""

    def __init__(self, schedule: Schedule, jobs: Mapping[str, int], tally: Tally) -> None:
        """Go on where `tally` ends; `jobs` are the job numbers of the recipes."""
        self._schedule = schedule
        self._jobs = jobs
        self.tally = tally

    def gate_ns(self, sequence: int) -> int:
        """Return when a part reaches the gate."""
        return self._schedule.gate_ns(sequence)

    def next_gate_ns(self) -> int | None:
        """Return when the next part reaches the gate; None after the last."""
        parts = self._schedule.parts
        return None if parts is not None and self.tally.parts >= parts else self.gate_ns(self.tally.parts)

    def at_gate(self, now_ns: int) -> int | None:
        """Return the part whose gate moment has come and which has not been dealt with."""
        next_ns = self.next_gate_ns()
        return self.tally.parts if next_ns is not None and next_ns <= now_ns else None

    def move_gate(self, result: Result | None, now_ns: int) -> Outcome | None:
        """Deal with the part at the gate by what its result slot holds; None if it passed unseen."""
        sequence = self.tally.parts
        late_ns = now_ns - self.gate_ns(sequence)
        if late_ns > _BLIND_NS:
            self.tally.unseen += 1
            return None
        self.tally.gate_late_max_ms = max(self.tally.gate_late_max_ms, round(late_ns / 1e6, 3))
        command = result.command if result is not None and result.sequence == sequence else None
        if command is GateCommand.PASS:
            self.tally.passed += 1
            return Outcome(sequence, GateOutcome.PASSED)
        self.tally.ejected += 1
        self.tally.ejected_unjudged += command is None
        self.tally.stop_requests += command is GateCommand.STOP
        return Outcome(sequence, GateOutcome.EJECTED)

    def job(self, now_ns: int) -> int:
        """Return the job of the product that comes next: it changes half a period after the old one's last part."""
        parts = self._schedule.parts
        sequence = self._schedule.latest(now_ns - self._schedule.period_ns // 2) + 1
        return self._jobs[self._schedule.product(sequence if parts is None else min(sequence, parts - 1))]


class Watch:
    """Watch what the station says of itself; one that says it has stopped is not missed."""

    def __init__(self, tally: Tally) -> None:
        """Count in `tally`."""
        self._tally = tally
        self.lost = True
        self._heartbeat = 0
        self._changed_ns = 0
        self._line_stop = 0

    def see(self, heartbeat: int, state: int, line_stop: int, now_ns: int) -> None:
        """Look at the station's registers."""
        if heartbeat != self._heartbeat:
            self._heartbeat, self._changed_ns, self.lost = heartbeat, now_ns, False
        elif not self.lost and now_ns - self._changed_ns > _HEARTBEAT_LOST_NS:
            self.lost = True
            self._tally.heartbeat_losses += state != StationState.STOPPED
        if line_stop and not self._line_stop:
            self._tally.stop_requests += 1
        self._line_stop = line_stop
