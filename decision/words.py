"""PLCs that hold the register map as words: what is the same for each, whatever protocol carries the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from decision import registers
from decision.gate import PlcInputs, StationOutputs
from decision.registers import Outcome, Register, Result


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
        state = [outputs.heartbeat, outputs.state, outputs.active_job, int(outputs.line_stop)]
        self._words.write(registers.OUTPUTS[0].address, [*state, *registers.words(outputs.run)])

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

    def read_inputs(self) -> PlcInputs:
        """Read the PLC's registers, and the run, in one request."""
        first = registers.INPUTS[0].address
        words = self._words.read(first, registers.INPUTS[-1].end - first)
        run, heartbeat, job, count = (
            words[register.address - first : register.end - first] for register in registers.INPUTS
        )
        return PlcInputs(registers.value(run), heartbeat[0], job[0], registers.value(count))

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
