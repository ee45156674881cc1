"""Modbus TCP: the PLC is the server and holds the whole map in holding registers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field
from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient

from config.errors import DeviceError
from config.station import Host
from decision.modbus import failure, refusal
from decision.words import WordsDriver

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

# pymodbus also logs what it raises; the link says it, once
logging.getLogger("pymodbus").addHandler(logging.NullHandler())


class Options(BaseModel):
    """Where the PLC is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: Host = "127.0.0.1"
    port: int = Field(default=5020, ge=1, le=65535)
    unit_id: int = Field(default=1, ge=0, le=255)
    timeout_ms: int = Field(default=200, ge=10, le=5000)  # of connecting and of one answer


class Driver(WordsDriver):
    """A PLC that is a Modbus TCP server."""

    def __init__(self, options: Options) -> None:
        """Name the PLC; `open` connects."""
        super().__init__(_HoldingRegisters(options))


class _HoldingRegisters:
    words_per_write = 123  # limits of the protocol: MODBUS Application Protocol V1.1b3, 6.12 and 6.3
    words_per_read = 125

    def __init__(self, options: Options) -> None:
        self._unit_id = options.unit_id
        self._timeout_ms = options.timeout_ms
        self._where = f"PLC {options.host}:{options.port}"
        self._client = ModbusTcpClient(
            options.host, port=options.port, timeout=options.timeout_ms / 1000, retries=0, name="andon"
        )

    def open(self) -> None:
        try:
            connected = self._client.connect()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            raise DeviceError(f"{self._where}: no connection: {error}") from error
        if not connected:
            raise DeviceError(f"{self._where}: no connection")

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here

    def write(self, address: int, words: list[int]) -> None:
        try:
            answer = self._client.write_registers(address, words, device_id=self._unit_id)
        except (ModbusException, OSError) as error:
            what = f"writing {len(words)} registers at {address}"
            raise self._error(what, failure(error, self._timeout_ms)) from error
        self._check(answer, f"writing {len(words)} registers at {address}")

    def read(self, address: int, count: int) -> list[int]:
        try:
            answer = self._client.read_holding_registers(address, count=count, device_id=self._unit_id)
        except (ModbusException, OSError) as error:
            what = f"reading {count} registers at {address}"
            raise self._error(what, failure(error, self._timeout_ms)) from error
        self._check(answer, f"reading {count} registers at {address}")
        if len(answer.registers) != count:
            raise self._error(f"reading {count} registers at {address}", f"{len(answer.registers)} came")
        return list(answer.registers)

    def _check(self, answer: ModbusPDU, what: str) -> None:
        if answer.isError():
            raise self._error(what, f"{refusal(answer)}; see the register map")

    def _error(self, what: str, why: object) -> DeviceError:
        return DeviceError(f"{self._where}: {what}: {why}")
