"""The handshake of a station that the PLC leads: what is taken, what is shown, what is refused. No I/O.

    PLC      part_number, trigger >                              > results_ack
    station                       > ack .. exposed .. judged .. result

The PLC counts its parts and every result carries that number, so a result is never taken for another part's. Each
number is taken once in a run, at the rising edge of its trigger and only where the station was ready for it; what was
not taken has no result and is told as overrun. Every result is handed over once: the next one stands only when the PLC
has acknowledged this one and dropped its acknowledgement.

`memory` is what must outlive the process. Whoever keeps it before anything that follows from it is done or shown can
be killed at any moment: the trigger that was taken stays taken, the result that stood stands again.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from config.messages import Group
from decision.gate import PlcInputs, StationSignals
from decision.registers import ErrorCode, Result

QUEUE: Final = 32  # parts between their trigger and the acknowledgement of their result
_MOST: Final = 0xFFFF_FFFF
FARTHEST: Final = 1_000_000  # a number so far above the last one is no count: no later one would ever be taken


class Triggered(Group, frozen=True, kw_only=True):
    """A part whose trigger was taken, and the job that counted then."""

    sequence: int  # the PLC's part number less 1
    job: int
    trigger_ns: int  # monotonic


class Memory(Group, frozen=True, kw_only=True):
    """What the handshake knows of this run."""

    acked_part: int = 0
    open: tuple[Triggered, ...] = ()  # taken and not judged
    results: tuple[Result, ...] = ()  # judged and not acknowledged, oldest first
    standing: bool = False  # the PLC is shown the first of them
    toggle: bool = False
    overrun: bool = False
    error_code: ErrorCode = ErrorCode.NONE
    error_part: int = 0


class Handshake:
    """One station's side of it. Facts come in by methods; `memory`, `result` and `signals()` say what to show."""

    def __init__(self, memory: Memory) -> None:
        """Go on where a former process of this run ended."""
        self.memory = memory
        self.refused = 0  # triggers, in this process
        acked = memory.acked_part
        self._exposing = acked if any(part.sequence + 1 == acked for part in memory.open) else 0
        self._highest = acked  # number that any trigger came with, taken or not
        self.connected()

    def connected(self) -> None:
        """Begin a conversation: what the PLC did until now was seen by nobody."""
        self._looked = False
        self._trigger: int | None = None  # the number under the trigger that is high; None: it is low
        self._able = False
        self._ack = False
        self._ack_was_low = False
        self._reset = True

    def look(self, inputs: PlcInputs, *, able: bool, job: int, now_ns: int) -> Triggered | None:
        """See what the PLC shows; return the part whose trigger was taken, if one was.

        `able` says that the station can judge by `job`, the one that it tells as active.
        """
        signals = inputs.signals
        refused = signals.trigger and not self._ack  # its overrun stays until the PLC has dropped it
        if signals.error_reset and not self._reset and not refused:
            self._keep(overrun=False, error_code=ErrorCode.NONE, error_part=0)
        self._reset = signals.error_reset
        self._hand_over(acked=signals.results_ack)
        able = able and signals.trigger_enable and inputs.requested_job in {0, job}
        taken = self._see_trigger(inputs.part_number, job, now_ns, able=able) if signals.trigger else None
        if not signals.trigger:
            self._trigger, self._ack = None, False
        self._able, self._looked = able, True
        return taken

    def exposed(self, sequence: int) -> None:
        """Take note that every camera has its picture of a part, or says that it will have none."""
        if self._exposing == sequence + 1:
            self._exposing = 0

    def judged(self, result: Result) -> None:
        """Take a result; one of a part that was not taken by this handshake, or is judged already, changes nothing."""
        memory = self.memory
        rest = tuple(part for part in memory.open if part.sequence != result.sequence)
        if len(rest) == len(memory.open):
            return
        self._keep(open=rest, results=(*memory.results, result), toggle=not memory.toggle)
        self.exposed(result.sequence)
        self._show()

    def job_refused(self) -> None:
        """Tell the PLC that it asked for a job that is not known."""
        self._keep(error_code=ErrorCode.UNKNOWN_JOB, error_part=0)

    @property
    def ready(self) -> bool:
        """Whether a trigger that rises now would be taken, by what was seen last."""
        return self._looked and self._able and self._trigger is None and not self._exposing and not self._full

    @property
    def result(self) -> Result | None:
        """Return the result that stands."""
        return self.memory.results[0] if self.memory.standing else None

    def signals(self, *, able: bool) -> StationSignals:
        """Return what to show; `able` as in `look`, and as of now."""
        memory = self.memory
        return StationSignals(
            ready=self.ready and able,
            ack=self._ack,
            exposure_complete=memory.acked_part > 0 and not self._exposing,
            busy=bool(memory.open),
            inspection_completed=memory.toggle,
            results_valid=memory.standing,
            # While the PLC resets it must see them fall, or it never ends; what is new shows when it has.
            overrun=memory.overrun and not self._reset,
            error=memory.error_code is not ErrorCode.NONE and not self._reset,
        )

    @property
    def _full(self) -> bool:
        return len(self.memory.open) + len(self.memory.results) >= QUEUE

    @property
    def _farthest(self) -> int:
        """The greatest number that can be the next; the first one of a run is free, as long as many can follow."""
        return self.memory.acked_part + FARTHEST if self.memory.acked_part else _MOST // 2

    def _see_trigger(self, number: int, job: int, now_ns: int, *, able: bool) -> Triggered | None:
        if self._trigger == number:
            return None
        ready = self.ready and able
        self._trigger, self._ack = number, False
        if not self._looked and number == self.memory.acked_part > 0:
            self._ack = True  # it was taken before this conversation began
            return None
        if number <= self.memory.acked_part or number > self._farthest:
            self._refuse(ErrorCode.PART_NUMBER, number)
            return None
        if not ready:
            self._refuse(ErrorCode.RESULTS_FULL if self._full else ErrorCode.NOT_READY, number)
            self._highest = max(self._highest, number)
            return None
        if 0 < self._highest < number - 1:
            self._refuse(ErrorCode.TRIGGER_LOST, self._highest + 1)
        self._highest = self._exposing = number
        self._ack = True
        part = Triggered(sequence=number - 1, job=job, trigger_ns=now_ns)
        self._keep(acked_part=number, open=(*self.memory.open, part))
        return part

    def _refuse(self, code: ErrorCode, number: int) -> None:
        self.refused += 1
        self._keep(overrun=True, error_code=code, error_part=number)

    def _hand_over(self, *, acked: bool) -> None:
        if self.memory.standing and acked:
            self._keep(results=self.memory.results[1:], standing=False)
        self._ack_was_low = not acked
        self._show()

    def _show(self) -> None:
        if self.memory.results and not self.memory.standing and self._ack_was_low:
            self._keep(standing=True)

    def _keep(self, **changes: object) -> None:
        changed = replace(self.memory, **changes)
        if changed != self.memory:
            self.memory = changed
