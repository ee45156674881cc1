"""Modbus TCP: the PLC is the server and holds the whole map in holding registers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field
from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient

from config.errors import DeviceError
from decision import registers
from decision.gate import PlcInputs, StationOutputs
from decision.registers import Outcome, Register, Result

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

_WORDS_PER_WRITE = 123  # limits of the protocol: MODBUS Application Protocol V1.1b3, 6.12 and 6.3
_WORDS_PER_READ = 125
# pymodbus also logs what it raises; the link says it, once
logging.getLogger("pymodbus").addHandler(logging.NullHandler())


class Options(BaseModel):
    """Where the PLC is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = "127.0.0.1"
    port: int = Field(default=5020, ge=1, le=65535)
    unit_id: int = Field(default=1, ge=0, le=255)
    timeout_ms: int = Field(default=200, ge=10, le=5000)  # of connecting and of one answer


class Driver:
    """A Modbus TCP client."""

    def __init__(self, options: Options) -> None:
        """Name the PLC; `open` connects."""
        self._unit_id = options.unit_id
        self._where = f"PLC {options.host}:{options.port}"
        self._client = ModbusTcpClient(
            options.host, port=options.port, timeout=options.timeout_ms / 1000, retries=0, name="andon"
        )

    def open(self) -> None:
        """Connect."""
        if not self._client.connect():  # type: ignore[no-untyped-call]  # pymodbus has no annotation here
            raise DeviceError(f"{self._where}: no connection")

    def close(self) -> None:
        """Disconnect."""
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here

    def write_outputs(self, outputs: StationOutputs) -> None:
        """Write the station's own registers in one request."""
        state = [outputs.heartbeat, outputs.state, outputs.active_job, int(outputs.line_stop)]
        self._write(registers.OUTPUTS[0].address, [*state, *registers.words(outputs.run)])

    def write_results(self, results: Sequence[Result]) -> None:
        """Write results; neighbours share a request."""
        for run in _neighbours(results):
            words = [word for result in run for word in registers.result_words(result)]
            self._write(_address(registers.RESULTS, run[0].sequence), words)

    def clear_results(self) -> None:
        """Write zeros over all result slots."""
        for address in range(registers.RESULTS.address, registers.RESULTS.end, _WORDS_PER_WRITE):
            self._write(address, [0] * min(_WORDS_PER_WRITE, registers.RESULTS.end - address))

    def read_inputs(self) -> PlcInputs:
        """Read the PLC's registers, and the run, in one request."""
        first = registers.INPUTS[0].address
        words = self._read(first, registers.INPUTS[-1].end - first)
        run, heartbeat, job, count = (
            words[register.address - first : register.end - first] for register in registers.INPUTS
        )
        return PlcInputs(registers.value(run), heartbeat[0], job[0], registers.value(count))

    def read_outcomes(self, first: int, count: int) -> list[Outcome | None]:
        """Read outcomes up to the end of the ring or of a request."""
        width = registers.OUTCOMES.words
        slot = registers.slot(first - 1)
        count = min(count, registers.SLOTS - slot, _WORDS_PER_READ // width)
        words = self._read(_address(registers.OUTCOMES, first - 1), count * width)
        return [registers.read_outcome(words[at : at + width]) for at in range(0, len(words), width)]

    def _write(self, address: int, words: list[int]) -> None:
        try:
            answer = self._client.write_registers(address, words, device_id=self._unit_id)
        except (ModbusException, OSError) as error:
            raise self._error(f"writing {len(words)} registers at {address}", error) from error
        self._check(answer, f"writing {len(words)} registers at {address}")

    def _read(self, address: int, count: int) -> list[int]:
        try:
            answer = self._client.read_holding_registers(address, count=count, device_id=self._unit_id)
        except (ModbusException, OSError) as error:
            raise self._error(f"reading {count} registers at {address}", error) from error
        self._check(answer, f"reading {count} registers at {address}")
        if len(answer.registers) != count:
            raise self._error(f"reading {count} registers at {address}", f"{len(answer.registers)} came")
        return list(answer.registers)

    def _check(self, answer: ModbusPDU, what: str) -> None:
        if answer.isError():
            raise self._error(what, f"refused: {answer}; see the register map")

    def _error(self, what: str, why: object) -> DeviceError:
        return DeviceError(f"{self._where}: {what}: {why}")


def _address(ring: Register, number: int) -> int:
    return ring.address + registers.slot(number) * ring.words


def _neighbours(results: Sequence[Result]) -> Iterator[list[Result]]:
    """Split rising sequences into runs that lie side by side in the ring and fit one request."""
    limit = _WORDS_PER_WRITE // registers.RESULTS.words
    run = list(results[:1])
    for before, result in pairwise(results):
        if result.sequence != before.sequence + 1 or registers.slot(result.sequence) == 0 or len(run) == limit:
            yield run
            run = []
        run.append(result)
    if run:
        yield run
