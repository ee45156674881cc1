"""The register map between station and PLC: one typed table that drivers, PLC simulator and printed map share.

Registers are 16 bits wide, addresses count from 0 as on the wire; two words make an unsigned 32-bit value, high word
first. Results and outcomes are positional: the slot follows from the number, and every slot names its part. So no
result can be taken for that of the next part, writing again changes nothing, and a PLC that comes back can be told
everything once more. Sequences are stored with 1 added: a slot that was never written is nobody's. Where the PLC
leads, that is its own number of the part (decision/handshake.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from config.messages import GateCommand, GateOutcome, Judgement

WORD: Final = 0x1_0000  # values that a register can have
_SEQUENCES: Final = 0xFFFF_FFFF  # after so many parts of one run the stored sequence begins again
SLOTS: Final = 256  # of each ring; more parts than these must never be between the cameras and the gate


class Writer(StrEnum):
    """Who writes a register; the other side reads it."""

    STATION = "station"
    PLC = "plc"


class Kind(StrEnum):
    """What a register holds."""

    U16 = "u16"
    U32 = "u32"  # high word first
    FLAGS = "flags"  # 16 bits, see BITS
    RESULT = "result"
    OUTCOME = "outcome"


FIELDS: Final = {  # of a group, in this order
    Kind.RESULT: (("part", Kind.U32), ("command", Kind.U16), ("verdict", Kind.U16)),
    Kind.OUTCOME: (("part", Kind.U32), ("outcome", Kind.U16), ("reserved", Kind.U16)),
}
_WORDS: Final = {Kind.U16: 1, Kind.U32: 2, Kind.FLAGS: 1, Kind.RESULT: 4, Kind.OUTCOME: 4}


@dataclass(frozen=True)
class Register:
    """One value of the map, or a ring of `slots` equal groups."""

    name: str
    address: int
    kind: Kind
    writer: Writer
    meaning: str
    slots: int = 1

    @property
    def words(self) -> int:
        """Return how many words it has, of a ring each slot."""
        return _WORDS[self.kind]

    @property
    def end(self) -> int:
        """Return the first address behind it."""
        return self.address + self.words * self.slots


@dataclass(frozen=True)
class Bit:
    """One signal of the handshake; `name` is also its field in StationSignals or PlcSignals (`decision/gate.py`)."""

    name: str
    register: Register
    number: int  # 0 is the lowest
    meaning: str

    @property
    def writer(self) -> Writer:
        """Return who writes it."""
        return self.register.writer


STATION_HEARTBEAT = Register(
    "station_heartbeat",
    0,
    Kind.U16,
    Writer.STATION,
    "changes every 100 ms while the station can judge, stops otherwise",
)
STATION_STATE = Register("station_state", 1, Kind.U16, Writer.STATION, "0 stopped, 1 ready, 2 degraded: cannot judge")
ACTIVE_JOB = Register("active_job", 2, Kind.U16, Writer.STATION, "job that the station judges by; 0: none")
REFUSED_JOB = Register(
    "refused_job", 3, Kind.U16, Writer.STATION, "requested job that the station does not know; 0: none"
)
LINE_STOP = Register("line_stop", 4, Kind.U16, Writer.STATION, "1: the station asks for the line to be stopped")
ACKED_PART = Register(
    "acked_part", 5, Kind.U32, Writer.STATION, "number of the part whose trigger was taken last; 0: none in this run"
)
ERROR_CODE = Register(
    "error_code",
    7,
    Kind.U16,
    Writer.STATION,
    "last error: 0 none, 1 trigger while not ready, 2 part number not above the last one, 3 trigger lost, "
    "4 results queue full, 5 unknown job",
)
ERROR_PART = Register("error_part", 8, Kind.U32, Writer.STATION, "part number that the error is about; 0: of no part")
RESULT = Register(
    "result",
    10,
    Kind.RESULT,
    Writer.STATION,
    "result that the PLC is to acknowledge, as a slot of results; zeros: none waits",
)
STATION_SIGNALS = Register("station_signals", 14, Kind.FLAGS, Writer.STATION, "the station's side of the handshake")
RUN = Register("run", 15, Kind.U32, Writer.STATION, "run that the results belong to; 0 after a PLC's cold start")
PLC_HEARTBEAT = Register(
    "plc_heartbeat", 17, Kind.U16, Writer.PLC, "changes at least every 100 ms while the PLC's program runs"
)
REQUESTED_JOB = Register("requested_job", 18, Kind.U16, Writer.PLC, "job of the product that comes next; 0: none")
OUTCOME_COUNT = Register("outcome_count", 19, Kind.U32, Writer.PLC, "outcomes written since the PLC's cold start")
PART_NUMBER = Register(
    "part_number", 21, Kind.U32, Writer.PLC, "number of the part to be triggered: above every one of this run"
)
PLC_SIGNALS = Register("plc_signals", 23, Kind.FLAGS, Writer.PLC, "the PLC's side of the handshake")
HEARTBEAT_LOST = Register("heartbeat_lost", 24, Kind.U16, Writer.PLC, "alarm, 1: the station's heartbeat stands still")
HEARTBEAT_LOSSES = Register("heartbeat_losses", 25, Kind.U16, Writer.PLC, "times that the station's heartbeat was lost")
LINE_STOPPED = Register(
    "line_stopped", 26, Kind.U16, Writer.PLC, "latch, 1: the line was stopped at the station's request"
)
LINE_STOPS = Register("line_stops", 27, Kind.U16, Writer.PLC, "stops asked for by the station")
RESULTS = Register(
    "results",
    100,
    Kind.RESULT,
    Writer.STATION,
    f"slot sequence mod {SLOTS}: sequence + 1 (2 words); command 1 pass, 2 reject, 3 stop; "
    "verdict 1 pass, 2 reject, 3 review, 4 fault",
    slots=SLOTS,
)
OUTCOMES = Register(
    "outcomes",
    2000,
    Kind.OUTCOME,
    Writer.PLC,
    f"slot (outcome number - 1) mod {SLOTS}: sequence + 1 (2 words); 1 passed, 2 ejected; reserved",
    slots=SLOTS,
)

OUTPUTS: Final = (  # written together
    STATION_HEARTBEAT,
    STATION_STATE,
    ACTIVE_JOB,
    REFUSED_JOB,
    LINE_STOP,
    ACKED_PART,
    ERROR_CODE,
    ERROR_PART,
    RESULT,
    STATION_SIGNALS,
    RUN,
)
INPUTS: Final = (RUN, PLC_HEARTBEAT, REQUESTED_JOB, OUTCOME_COUNT, PART_NUMBER, PLC_SIGNALS)  # read together
TABLE: Final = (
    *OUTPUTS,
    *INPUTS[1:],
    HEARTBEAT_LOST,
    HEARTBEAT_LOSSES,
    LINE_STOPPED,
    LINE_STOPS,
    RESULTS,
    OUTCOMES,
)

BITS: Final = (
    Bit("ready", STATION_SIGNALS, 0, "a trigger would be taken now"),
    Bit("ack", STATION_SIGNALS, 1, "the trigger was taken, for part acked_part; until trigger falls"),
    Bit("exposure_complete", STATION_SIGNALS, 2, "every camera has its picture of acked_part: it may move"),
    Bit("busy", STATION_SIGNALS, 3, "parts whose trigger was taken are not judged yet"),
    Bit("inspection_completed", STATION_SIGNALS, 4, "toggles with each part that was judged"),
    Bit("results_valid", STATION_SIGNALS, 5, "result stands and waits for results_ack"),
    Bit("overrun", STATION_SIGNALS, 6, "a trigger was not taken (error_part); until error_reset"),
    Bit("error", STATION_SIGNALS, 7, "error_code says why; until error_reset"),
    Bit("trigger_enable", PLC_SIGNALS, 0, "the PLC is going to trigger"),
    Bit("trigger", PLC_SIGNALS, 1, "rising: part_number is in front of the cameras; until ack"),
    Bit("results_ack", PLC_SIGNALS, 2, "result was read; until results_valid falls"),
    Bit("error_reset", PLC_SIGNALS, 3, "rising: overrun and error were seen"),
)


class ErrorCode(IntEnum):
    """What was wrong with a trigger or a job."""

    NONE = 0
    NOT_READY = 1
    PART_NUMBER = 2
    TRIGGER_LOST = 3
    RESULTS_FULL = 4
    UNKNOWN_JOB = 5


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
