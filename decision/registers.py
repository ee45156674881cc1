"""The register map between station and PLC: one typed table that drivers, PLC simulator and printed map share.

Registers are 16 bits wide, addresses count from 0 as on the wire; two words make an unsigned 32-bit value, high word
first. Results and outcomes are positional: the slot follows from the number, and every slot names its part. So no
result can be taken for that of the next part, writing again changes nothing, and a PLC that comes back can be told
everything once more. Sequences are stored with 1 added: a slot that was never written is nobody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from config.messages import GateCommand, GateOutcome, Judgement

WORD: Final = 0x1_0000  # values that a register can have
_SEQUENCES: Final = 0xFFFF_FFFF  # after so many parts of one run the stored sequence begins again
SLOTS: Final = 256  # of each ring; more parts than these must never be between the cameras and the gate


class Writer(StrEnum):
    """Who writes a register; the other side reads it."""

    STATION = "station"
    PLC = "plc"


@dataclass(frozen=True)
class Register:
    """One value of the map, or a ring of `slots` equal groups of `words`."""

    name: str
    address: int
    words: int
    writer: Writer
    meaning: str
    slots: int = 1

    @property
    def end(self) -> int:
        """Return the first address behind it."""
        return self.address + self.words * self.slots


STATION_HEARTBEAT = Register(
    "station_heartbeat", 0, 1, Writer.STATION, "changes every 100 ms while the station can judge, stops otherwise"
)
STATION_STATE = Register("station_state", 1, 1, Writer.STATION, "0 stopped, 1 ready, 2 degraded: cannot judge")
ACTIVE_JOB = Register("active_job", 2, 1, Writer.STATION, "job that the station judges by; 0: none yet")
LINE_STOP = Register("line_stop", 3, 1, Writer.STATION, "1: the station asks for the line to be stopped")
RUN = Register("run", 4, 2, Writer.STATION, "run that the results belong to; 0 after a PLC's cold start")
PLC_HEARTBEAT = Register(
    "plc_heartbeat", 6, 1, Writer.PLC, "changes at least every 100 ms while the PLC's program runs"
)
REQUESTED_JOB = Register("requested_job", 7, 1, Writer.PLC, "job of the product that comes next; 0: none")
OUTCOME_COUNT = Register("outcome_count", 8, 2, Writer.PLC, "outcomes written since the PLC's cold start")
HEARTBEAT_LOST = Register("heartbeat_lost", 10, 1, Writer.PLC, "alarm, 1: the station's heartbeat stands still")
HEARTBEAT_LOSSES = Register("heartbeat_losses", 11, 1, Writer.PLC, "times that the station's heartbeat was lost")
LINE_STOPPED = Register("line_stopped", 12, 1, Writer.PLC, "latch, 1: the line was stopped at the station's request")
LINE_STOPS = Register("line_stops", 13, 1, Writer.PLC, "stops asked for by the station")
RESULTS = Register(
    "results",
    100,
    4,
    Writer.STATION,
    f"slot sequence mod {SLOTS}: sequence + 1 (2 words); command 1 pass, 2 reject, 3 stop; "
    "verdict 1 pass, 2 reject, 3 review, 4 fault",
    slots=SLOTS,
)
OUTCOMES = Register(
    "outcomes",
    2000,
    4,
    Writer.PLC,
    f"slot (outcome number - 1) mod {SLOTS}: sequence + 1 (2 words); 1 passed, 2 ejected; reserved",
    slots=SLOTS,
)

TABLE: Final = (
    STATION_HEARTBEAT,
    STATION_STATE,
    ACTIVE_JOB,
    LINE_STOP,
    RUN,
    PLC_HEARTBEAT,
    REQUESTED_JOB,
    OUTCOME_COUNT,
    HEARTBEAT_LOST,
    HEARTBEAT_LOSSES,
    LINE_STOPPED,
    LINE_STOPS,
    RESULTS,
    OUTCOMES,
)
OUTPUTS: Final = (STATION_HEARTBEAT, STATION_STATE, ACTIVE_JOB, LINE_STOP, RUN)  # written together
INPUTS: Final = (RUN, PLC_HEARTBEAT, REQUESTED_JOB, OUTCOME_COUNT)  # read together

COMMANDS: Final = {GateCommand.PASS: 1, GateCommand.REJECT: 2, GateCommand.STOP: 3}
VERDICTS: Final = {Judgement.PASS: 1, Judgement.REJECT: 2, Judgement.REVIEW: 3, Judgement.FAULT: 4}
OUTCOME_CODES: Final = {GateOutcome.PASSED: 1, GateOutcome.EJECTED: 2}
_COMMAND_OF: Final = {code: command for command, code in COMMANDS.items()}
_VERDICT_OF: Final = {code: verdict for verdict, code in VERDICTS.items()}
_OUTCOME_OF: Final = {code: outcome for outcome, code in OUTCOME_CODES.items()}


@dataclass(frozen=True)
class Result:
    """What the station decided about a part."""

    sequence: int
    command: GateCommand
    verdict: Judgement


@dataclass(frozen=True)
class Outcome:
    """What the gate did with a part."""

    sequence: int
    outcome: GateOutcome


def words(value: int) -> list[int]:
    """Return an unsigned 32-bit value as two words, high word first."""
    return [value // WORD % WORD, value % WORD]


def value(pair: Sequence[int]) -> int:
    """Return the unsigned 32-bit value of two words."""
    return pair[0] * WORD + pair[1]


def slot(number: int) -> int:
    """Return which slot of a ring `number` has."""
    return number % SLOTS


def result_words(result: Result) -> list[int]:
    """Return the words of a result's slot."""
    return [*_sequence_words(result.sequence), COMMANDS[result.command], VERDICTS[result.verdict]]


def read_result(group: Sequence[int]) -> Result | None:
    """Return the result in a slot; None for one that is empty or holds codes that mean nothing."""
    command, verdict = _COMMAND_OF.get(group[2]), _VERDICT_OF.get(group[3])
    sequence = value(group[:2]) - 1
    return None if sequence < 0 or command is None or verdict is None else Result(sequence, command, verdict)


def outcome_words(outcome: Outcome) -> list[int]:
    """Return the words of an outcome's slot."""
    return [*_sequence_words(outcome.sequence), OUTCOME_CODES[outcome.outcome], 0]


def read_outcome(group: Sequence[int]) -> Outcome | None:
    """Return the outcome in a slot; None for one that is empty or holds a code that means nothing."""
    outcome = _OUTCOME_OF.get(group[2])
    sequence = value(group[:2]) - 1
    return None if sequence < 0 or outcome is None else Outcome(sequence, outcome)


def _sequence_words(sequence: int) -> list[int]:
    return words(sequence % _SEQUENCES + 1)
