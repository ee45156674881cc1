"""What can be wrong with a PLC, on command: each fault is on for a time and ends by itself. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

UNKNOWN_JOB: Final = 65_535


class Fault(StrEnum):
    """What is wrong; its text is what `andon plc fault` takes."""

    DROP = "drop"
    FREEZE = "freeze"
    LATE = "late"
    RESTART = "restart"
    COLD_RESTART = "cold-restart"
    MISS_ACK = "miss-ack"
    MISS_OUTCOME = "miss-outcome"
    HEARTBEAT = "heartbeat"
    UNKNOWN_JOB = "unknown-job"


MEANINGS: Final = {
    Fault.DROP: "every connection is lost and none is taken",
    Fault.FREEZE: "connections are taken, nothing is answered",
    Fault.LATE: "every answer comes 150 ms late",
    Fault.RESTART: "the PLC is off, and comes back with the memory that it had",
    Fault.COLD_RESTART: "the PLC is off, and comes back with an empty memory",
    Fault.MISS_ACK: "results are not acknowledged, and no trigger is dropped after its ack (where the PLC leads)",
    Fault.MISS_OUTCOME: "the gate moves, but what it did is not told",
    Fault.HEARTBEAT: "the PLC's heartbeat stands still",
    Fault.UNKNOWN_JOB: f"job {UNKNOWN_JOB} is asked for",
}


class Planned(BaseModel):
    """A fault of a script, `at_s` after the line's start."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Fault
    at_s: float = Field(ge=0)
    for_s: float = Field(gt=0)


class Script(BaseModel):
    """A file of `andon plc simulate --faults FILE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    faults: tuple[Planned, ...]


class Faults:
    """Which faults are on."""

    def __init__(self) -> None:
        self._ends_ns: dict[Fault, int] = {}
        self._planned: list[Planned] = []
        self._start_ns = 0

    def plan(self, planned: Iterable[Planned], start_ns: int) -> None:
        """Let faults come by themselves."""
        self._planned, self._start_ns = sorted(planned, key=lambda one: one.at_s), start_ns

    def begin(self, fault: Fault, for_s: float, now_ns: int) -> None:
        """Let a fault begin now; one that is on lasts as long as either wants."""
        self._ends_ns[fault] = max(self._ends_ns.get(fault, 0), now_ns + round(for_s * 1e9))

    def on(self, now_ns: int) -> frozenset[Fault]:
        """Return the faults that are on."""
        while self._planned and now_ns >= self._start_ns + round(self._planned[0].at_s * 1e9):
            due = self._planned.pop(0)
            self.begin(due.name, due.for_s, self._start_ns + round(due.at_s * 1e9))
        self._ends_ns = {fault: ends_ns for fault, ends_ns in self._ends_ns.items() if ends_ns > now_ns}
        return frozenset(self._ends_ns)
