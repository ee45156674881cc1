"""PLCs that hold the register map as words: what is the same for each, whatever protocol carries the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from decision import registers
from decision.gate import PlcInputs, PlcSignals, StationOutputs, StationSignals, StationState
from decision.registers import ErrorCode, Outcome, Register, Result


class Words(Protocol):
    """A PLC's memory, in words of 16 bits from address 0 on. Every method but `close` raises DeviceError."""

    words_per_read: int  # most in one request
    words_per_write: int

    def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Disconnect; never raises, also where nothing is open."""

    def read(self, address: int, count: int) -> list[int]:
        """Return `count` words."""

    def write(self, address: int, words: list[int]) -> None:
        """Write words, all of them at once."""


class WordsDriver:
    """A PLC driver (`decision/gate.py`) over a PLC's words."""

    def __init__(self, words: Words) -> None:
        """Name the PLC; `open` connects."""
        self._words = words

    def open(self) -> None:
        """Connect."""
        self._words.open()

    def close(self) -> None:
        """Disconnect."""
        self._words.close()

    def write_outputs(self, outputs: StationOutputs) -> None:
        """Write the station's own registers in one request."""
        self._words.write(registers.OUTPUTS[0].address, output_words(outputs))

    def write_results(self, results: Sequence[Result]) -> None:
        """Write results; neighbours share a request."""
        for run in self._neighbours(results):
            words = [word for result in run for word in registers.result_words(result)]
            self._words.write(_address(registers.RESULTS, run[0].sequence), words)

    def clear_results(self) -> None:
        """Write zeros over all result slots."""
        most = self._words.words_per_write
        for address in range(registers.RESULTS.address, registers.RESULTS.end, most):
            self._words.write(address, [0] * min(most, registers.RESULTS.end - address))

    def read_heartbeat(self) -> int:
        """Read the station's heartbeat."""
        return self._words.read(registers.STATION_HEARTBEAT.address, 1)[0]

    def read_inputs(self) -> PlcInputs:
        """Read the PLC's registers, and the run, in one request."""
        first = registers.INPUTS[0].address
        return read_inputs(self._words.read(first, registers.INPUTS[-1].end - first))

    def read_outcomes(self, first: int, count: int) -> list[Outcome | None]:
        """Read outcomes up to the end of the ring or of a request."""
        width = registers.OUTCOMES.words
        slot = registers.slot(first - 1)
        count = min(count, registers.SLOTS - slot, self._words.words_per_read // width)
        words = self._words.read(_address(registers.OUTCOMES, first - 1), count * width)
        return [registers.read_outcome(words[at : at + width]) for at in range(0, len(words), width)]

    def _neighbours(self, results: Sequence[Result]) -> Iterator[list[Result]]:
        """Split rising sequences into runs that lie side by side in the ring and fit one request."""
        limit = self._words.words_per_write // registers.RESULTS.words
        run = list(results[:1])
        for before, result in pairwise(results):
            if result.sequence != before.sequence + 1 or registers.slot(result.sequence) == 0 or len(run) == limit:
                yield run
                run = []
            run.append(result)
        if run:
            yield run


def _address(ring: Register, number: int) -> int:
    return ring.address + registers.slot(number) * ring.words


def output_words(outputs: StationOutputs) -> list[int]:
    """Return the words of `registers.OUTPUTS`."""
    result = registers.result_words(outputs.result) if outputs.result else [0] * registers.RESULT.words
    return [
        outputs.heartbeat,
        outputs.state,
        outputs.active_job,
        outputs.refused_job,
        int(outputs.line_stop),
        *registers.words(outputs.acked_part),
        outputs.error_code,
        *registers.words(outputs.error_part),
        *result,
        _flags(registers.STATION_SIGNALS, outputs.signals),
        *registers.words(outputs.run),
    ]


def read_outputs(words: Sequence[int]) -> StationOutputs:
    """Return what `output_words` has written; raise ValueError for codes that mean nothing."""
    part = _split(registers.OUTPUTS, words)
    return StationOutputs(
        heartbeat=part[registers.STATION_HEARTBEAT][0],
        state=StationState(part[registers.STATION_STATE][0]),
        active_job=part[registers.ACTIVE_JOB][0],
        refused_job=part[registers.REFUSED_JOB][0],
        line_stop=bool(part[registers.LINE_STOP][0]),
        acked_part=registers.value(part[registers.ACKED_PART]),
        error_code=ErrorCode(part[registers.ERROR_CODE][0]),
        error_part=registers.value(part[registers.ERROR_PART]),
        result=registers.read_result(part[registers.RESULT]),
        signals=StationSignals(**_signals(registers.STATION_SIGNALS, part[registers.STATION_SIGNALS][0])),
        run=registers.value(part[registers.RUN]),
    )


def input_words(inputs: PlcInputs) -> list[int]:
    """Return the words of `registers.INPUTS`."""
    return [
        *registers.words(inputs.run),
        inputs.heartbeat,
        inputs.requested_job,
        *registers.words(inputs.outcome_count),
        *registers.words(inputs.part_number),
        _flags(registers.PLC_SIGNALS, inputs.signals),
    ]


def read_inputs(words: Sequence[int]) -> PlcInputs:
    """Return what `input_words` has written."""
    part = _split(registers.INPUTS, words)
    return PlcInputs(
        run=registers.value(part[registers.RUN]),
        heartbeat=part[registers.PLC_HEARTBEAT][0],
        requested_job=part[registers.REQUESTED_JOB][0],
        outcome_count=registers.value(part[registers.OUTCOME_COUNT]),
        part_number=registers.value(part[registers.PART_NUMBER]),
        signals=PlcSignals(**_signals(registers.PLC_SIGNALS, part[registers.PLC_SIGNALS][0])),
    )


def _split(group: Sequence[Register], words: Sequence[int]) -> dict[Register, Sequence[int]]:
    first = group[0].address
    return {one: words[one.address - first : one.end - first] for one in group}


def _flags(register: Register, signals: StationSignals | PlcSignals) -> int:
    return sum(getattr(signals, bit.name) << bit.number for bit in registers.BITS if bit.register is register)


def _signals(register: Register, flags: int) -> dict[str, bool]:
    return {bit.name: bool(flags >> bit.number & 1) for bit in registers.BITS if bit.register is register}
