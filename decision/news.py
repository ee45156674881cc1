"""What the link to the PLC tells the decision loop."""

from __future__ import annotations

from dataclasses import dataclass

from config.messages import GateOutcome
from decision.handshake import Triggered
from decision.registers import ErrorCode


@dataclass(frozen=True)
class GateWritten:
    """The PLC has taken the command for a part."""

    sequence: int
    part_id: str
    written_ns: int


@dataclass(frozen=True)
class GateMissed:
    """The command for a part could not be written in time; the gate was at rest for it."""

    sequence: int
    part_id: str


@dataclass(frozen=True)
class GateOutcomeSeen:
    """The PLC has told what the gate did with a part."""

    sequence: int
    outcome: GateOutcome
    seen_ns: int


@dataclass(frozen=True)
class GateOutcomesLost:
    """So many outcomes were overwritten, or meant nothing, before they could be read."""

    count: int


@dataclass(frozen=True)
class GateOutcomesRecounted:
    """The PLC's count of outcomes went back: it has older registers again, or counts anew. It is followed."""

    before: int
    count: int


@dataclass(frozen=True)
class JobRequested:
    """The PLC asks for another job than before; 0: for none."""

    job: int


@dataclass(frozen=True)
class PartTriggered:
    """The PLC's trigger was taken: the part is to be exposed and judged.

    `again`: a former process of this run took it, and maybe had it exposed; it is not to be exposed any more.
    """

    part: Triggered
    again: bool


@dataclass(frozen=True)
class TriggerRefused:
    """A trigger was not taken: the part with that number has no result, the gate at rest ejects it."""

    code: ErrorCode
    part_number: int


@dataclass(frozen=True)
class LinkUp:
    """The PLC answers and its program runs."""


@dataclass(frozen=True)
class LinkDown:
    """The PLC does not answer, or its program stands still."""

    reason: str


Event = (
    GateWritten
    | GateMissed
    | GateOutcomeSeen
    | GateOutcomesLost
    | GateOutcomesRecounted
    | JobRequested
    | PartTriggered
    | TriggerRefused
    | LinkUp
    | LinkDown
)
