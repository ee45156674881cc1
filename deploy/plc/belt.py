"""The simulated line from the PLC's side: which part is at the gate when, and what a gate at rest does. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from config.messages import GateCommand, GateOutcome, Truth
from config.schedule import NEVER_NS, Hold, Schedule
from decision.gate import StationState
from decision.registers import SLOTS, Outcome, Result

_BLIND_NS = 100_000_000  # a gate moment missed by more passed while the PLC was dead
_HEARTBEAT_LOST_NS = 500_000_000
_BRAKING_NS = 100_000_000  # until the belt stands, and until it moves again


class Tally(BaseModel):
    """What the PLC saw in one run; parts = passed + ejected + unseen.

    good and bad is what simulated parts are in truth: a station that judges them all rightly, and whose gate does what
    was judged, has bad_passed and good_ejected 0. `escapes` and `late` need no truth: the result of a part is looked at
    once more when the part is long past the gate.
    """

    model_config = ConfigDict(extra="forbid")
    run_id: str
    passed: int = 0
    ejected: int = 0
    ejected_unjudged: int = 0  # among the ejected: no result of that part was there
    unseen: int = 0  # reached the gate while the PLC was dead: at rest, it ejected them
    bad_passed: int = 0
    good_ejected: int = 0  # unseen ones, too
    escapes: int = 0  # passed, and its result says another thing than pass
    late: int = 0  # ejected, and its result says pass: it came after the part
    untriggered: int = 0  # where the PLC leads: the station was not ready, or refused
    untold: int = 0  # outcomes that were not counted (a fault on command)
    stop_requests: int = 0
    belt_stops: int = 0
    heartbeat_losses: int = 0
    gate_late_max_ms: float = 0.0  # how far behind its moment the simulator itself moved the gate

    @property
    def parts(self) -> int:
        """Return how many parts have reached the gate; so also the sequence of the next one."""
        return self.passed + self.ejected + self.unseen


class Belt:
    """Parts on their way from the cameras to the gate; the gate opens for a PASS of that very part and nothing else."""

    def __init__(
        self,
        schedule: Schedule,
        jobs: Mapping[str, int],
        tally: Tally,
        *,
        truth: Callable[[int, Schedule], Truth | None] | None = None,
    ) -> None:
        """Go on where `tally` ends; `jobs` are the job numbers of the recipes, `truth` is that of the parts."""
        self.schedule = schedule
        self._jobs = jobs
        self.tally = tally
        self._truth = truth
        self._passed: dict[int, bool] = {}  # parts whose result is to be looked at once more
        travelling = -(-schedule.gate_travel_ns // schedule.period_ns)
        self._look_back = max(1, (SLOTS - travelling) // 2)

    def gate_ns(self, sequence: int) -> int:
        """Return when a part reaches the gate."""
        return self.schedule.gate_ns(sequence)

    def next_gate_ns(self) -> int | None:
        """Return when the next part reaches the gate; None after the last."""
        parts = self.schedule.parts
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
            self.miss()
            return None
        self.tally.gate_late_max_ms = max(self.tally.gate_late_max_ms, round(late_ns / 1e6, 3))
        command = result.command if result is not None and result.sequence == sequence else None
        passes = command is GateCommand.PASS
        self._passed[sequence] = passes
        if passes:
            self.tally.bad_passed += self._is(sequence, good=False)
            self.tally.passed += 1
            return Outcome(sequence, GateOutcome.PASSED)
        self.tally.good_ejected += self._is(sequence, good=True)
        self.tally.ejected += 1
        self.tally.ejected_unjudged += command is None
        self.tally.stop_requests += command is GateCommand.STOP
        return Outcome(sequence, GateOutcome.EJECTED)

    def miss(self) -> None:
        """Let the part at the gate go by while nobody looks: the gate at rest ejects it."""
        self.tally.good_ejected += self._is(self.tally.parts, good=True)
        self.tally.unseen += 1

    def looked_back(self, now_ns: int) -> int | None:
        """Return the next part, long past the gate, whose result is to be looked at once more."""
        first = next(iter(self._passed), None)
        if first is None:
            return None
        next_ns = self.next_gate_ns()
        idle = next_ns is None or next_ns > now_ns + 1_000_000_000
        return first if self.tally.parts > first + self._look_back or idle else None

    def look_back(self, sequence: int, result: Result | None) -> None:
        """Compare what the gate did with what the result slot says now."""
        passed = self._passed.pop(sequence)
        if result is None or result.sequence != sequence:
            self.tally.escapes += passed
        else:
            self.tally.escapes += passed and result.command is not GateCommand.PASS
            self.tally.late += not passed and result.command is GateCommand.PASS

    def forget(self) -> None:
        """Lose what was to be looked at once more: the results are gone with the PLC's memory."""
        self._passed.clear()

    def job(self, now_ns: int) -> int:
        """Return the job of the product that comes next: it changes half a period after the old one's last part."""
        parts = self.schedule.parts
        sequence = self.schedule.latest(now_ns - self.schedule.period_ns // 2) + 1
        return self._jobs[self.schedule.product(sequence if parts is None else min(sequence, parts - 1))]

    def _is(self, sequence: int, *, good: bool) -> bool:
        """Tell whether a part is known to be good, or to be bad."""
        known = self._truth(sequence, self.schedule) if self._truth is not None else None
        return known is not None and known.good is good


class Moved(Protocol):
    """A belt that can be held."""

    schedule: Schedule
    tally: Tally


class Drive:
    """The belt's motor: it stands from a stop on, and moves again some time after nobody asks for a stop any more."""

    def __init__(self, belt: Moved, restart_after_s: float) -> None:
        """Drive a belt; `restart_after_s` is the operator's time to look and to acknowledge."""
        self._belt = belt
        self._restart_after_ns = round(restart_after_s * 1e9)
        self._asked_ns = 0

    @property
    def stopped(self) -> bool:
        """Whether the belt stands, or is about to, at the station's request."""
        holds = self._belt.schedule.holds
        return bool(holds) and holds[-1].end_ns is None

    def turn(self, now_ns: int, *, stop: bool) -> bool:
        """Look whether anybody asks for a stop; return whether the belt's holds have changed."""
        holds = self._belt.schedule.holds
        if stop:
            self._asked_ns = now_ns
            if self.stopped or (holds and now_ns < (holds[-1].end_ns or NEVER_NS)):
                return False
            self._belt.tally.belt_stops += 1
            return self._hold((*holds, Hold(now_ns + _BRAKING_NS)))
        if self.stopped and now_ns - self._asked_ns >= self._restart_after_ns:
            end_ns = max(now_ns, holds[-1].begin_ns) + _BRAKING_NS
            return self._hold((*holds[:-1], replace(holds[-1], end_ns=end_ns)))
        return False

    def _hold(self, holds: tuple[Hold, ...]) -> bool:
        self._belt.schedule = replace(self._belt.schedule, holds=holds)
        return True


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
