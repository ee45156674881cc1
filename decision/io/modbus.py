"""Modbus TCP remote I/O: outputs are coils, inputs are discrete inputs, counters are input or holding registers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient

from config.errors import DeviceError
from config.station import Host
from decision.coupler import Inputs
from decision.modbus import failure, refusal

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

# pymodbus also logs what it raises; the gates say it, once
logging.getLogger("pymodbus").addHandler(logging.NullHandler())

_WORDS_PER_READ = 125  # MODBUS Application Protocol V1.1b3, 6.3 and 6.4
_WORD = 16


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Counter(_Table):
    """A counter of one or two registers."""

    address: int = Field(ge=0, le=65535)
    bits: Literal[16, 32] = 32
    low_word_first: bool = False


class Watchdog(_Table):
    """A holding register that is written when the connection opens; what the value means is the coupler's."""

    address: int = Field(ge=0, le=65535)
    value: int = Field(ge=0, le=65535)


class Options(_Table):
    """Where the coupler is, and where in it everything is. All of its outputs are the station's."""

    host: Host = "127.0.0.1"
    port: int = Field(default=502, ge=1, le=65535)
    unit_id: int = Field(default=1, ge=0, le=255)
    timeout_ms: int = Field(default=100, ge=10, le=5000)  # of connecting and of one answer
    outputs: int = Field(default=8, ge=1, le=1968)  # 6.11
    output_address: int = Field(default=0, ge=0, le=65535)
    inputs: int = Field(default=8, ge=0, le=2000)  # 6.2
    input_address: int = Field(default=0, ge=0, le=65535)
    counters: tuple[Counter, ...] = ()
    counters_in: Literal["input_registers", "holding_registers"] = "input_registers"
    watchdog: Watchdog | None = None

    @model_validator(mode="after")
    def _counters_in_one_request(self) -> Self:
        if self.counters:
            first, end = _span(self.counters)
            if end - first > _WORDS_PER_READ:
                raise ValueError(
                    f"counters must lie within {_WORDS_PER_READ} registers, to be read in one request, "
                    f"not from {first} to {end - 1}"
                )
        return self


class Driver:
    """A coupler that is a Modbus TCP server."""

    def __init__(self, options: Options) -> None:
        """Name the coupler; `open` connects."""
        self.outputs = options.outputs
        self.inputs = options.inputs
        self.counter_bits = tuple(counter.bits for counter in options.counters)
        self._options = options
        self._where = f"I/O {options.host}:{options.port}"
        self._client = ModbusTcpClient(
            options.host, port=options.port, timeout=options.timeout_ms / 1000, retries=0, name="andon"
        )

    def open(self) -> None:
        """Connect; write the watchdog's register."""
        try:
            connected = self._client.connect()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            raise DeviceError(f"{self._where}: no connection: {error}") from error
        if not connected:
            raise DeviceError(f"{self._where}: no connection")
        watchdog = self._options.watchdog
        if watchdog is not None:
            self._ask(
                f"writing the watchdog, {watchdog.value} to register {watchdog.address}",
                lambda: self._client.write_register(watchdog.address, watchdog.value, device_id=self._options.unit_id),
            )

    def close(self) -> None:
        """Disconnect."""
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here

    def write(self, bits: Sequence[bool]) -> None:
        """Write all coils in one request."""
        self._ask(
            f"writing {len(bits)} coils at {self._options.output_address}",
            lambda: self._client.write_coils(self._options.output_address, list(bits), device_id=self._options.unit_id),
        )

    def read(self) -> Inputs:
        """Read the inputs in one request, then the counters in another."""
        asked_ns = time.monotonic_ns()
        bits = self._read_bits()
        answered_ns = time.monotonic_ns()
        counts = self._read_counts()
        doubt_ns = (time.monotonic_ns() - answered_ns) // 2
        return Inputs(bits, (asked_ns, answered_ns), counts, answered_ns + doubt_ns, doubt_ns)

    def _read_counts(self) -> tuple[int, ...]:
        counters = self._options.counters
        if not counters:
            return ()
        first, end = _span(counters)
        table = self._options.counters_in
        read = self._client.read_input_registers if table == "input_registers" else self._client.read_holding_registers
        what = f"reading {end - first} {table} at {first}"
        answer = self._ask(what, lambda: read(first, count=end - first, device_id=self._options.unit_id))
        if len(answer.registers) != end - first:
            raise self._error(what, f"{len(answer.registers)} came")
        return tuple(_value(counter, answer.registers, counter.address - first) for counter in counters)

    def _read_bits(self) -> tuple[bool, ...]:
        first, count = self._options.input_address, self._options.inputs
        if not count:
            return ()
        what = f"reading {count} discrete inputs at {first}"
        unit_id = self._options.unit_id
        answer = self._ask(what, lambda: self._client.read_discrete_inputs(first, count=count, device_id=unit_id))
        if len(answer.bits) < count:
            raise self._error(what, f"{len(answer.bits)} came")
        return tuple(answer.bits[:count])

    def _ask(self, what: str, request: Callable[[], ModbusPDU]) -> ModbusPDU:
        try:
            answer = request()
        except (ModbusException, OSError) as error:
            raise self._error(what, failure(error, self._options.timeout_ms)) from error
        if answer.isError():
            raise self._error(what, f"{refusal(answer)}; compare the options with the coupler's map")
        return answer

    def _error(self, what: str, why: object) -> DeviceError:
        return DeviceError(f"{self._where}: {what}: {why}")


def _span(counters: Sequence[Counter]) -> tuple[int, int]:
    """Return the first register of the counters, and the one behind the last."""
    first = min(counter.address for counter in counters)
    return first, max(counter.address + counter.bits // _WORD for counter in counters)


def _value(counter: Counter, words: Sequence[int], at: int) -> int:
    if counter.bits == _WORD:
        return words[at]
    high, low = (words[at + 1], words[at]) if counter.low_word_first else (words[at], words[at + 1])
    return high << _WORD | low
