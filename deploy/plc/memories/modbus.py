"""A Modbus TCP server that holds the register map in holding registers."""

from __future__ import annotations

from pydantic import BaseModel
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from decision.plc.modbus import Options
from decision.registers import Register
from deploy.plc.memory import WORDS, written_by_plc

_WRITE_REGISTERS = 16  # Modbus function codes
_READ_REGISTERS = 3


def address(options: BaseModel) -> tuple[str, int]:
    """Return where a Modbus driver looks for its PLC."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    return options.host, options.port


def memory(_options: BaseModel, host: str, port: int) -> Memory:
    """Return a memory; it answers to any unit id."""
    return Memory(host, port)


class Memory:
    """The PLC's registers behind a Modbus TCP server; only the PLC's own program writes what is the PLC's."""

    def __init__(self, host: str, port: int) -> None:
        """Name the address. Needs a running event loop."""
        cells = SimData(0, count=WORDS, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(0, simdata=[cells], action=self._protect)
        self._server = ModbusTcpServer(device, address=(host, port))
        self._own = False

    async def serve(self) -> None:
        """Begin to answer."""
        await self._server.serve_forever(background=True)

    async def close(self) -> None:
        """Answer no more."""
        await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here

    async def read(self, register: Register, slot: int = 0) -> list[int]:
        """Return a register's words."""
        address = register.address + slot * register.words
        return [int(word) for word in await self._server.async_getValues(0, _READ_REGISTERS, address, register.words)]

    async def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        """Set a register's words."""
        await self._set(register.address + slot * register.words, words)

    async def clear(self) -> None:
        """Set everything to 0."""
        await self._set(0, [0] * WORDS)

    async def _set(self, address: int, words: list[int]) -> None:
        self._own = True
        await self._server.async_setValues(0, _WRITE_REGISTERS, address, words)
        self._own = False

    async def _protect(
        self,
        _function: int,
        _start: int,
        address: int,
        count: int,
        _cells: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if values is None or self._own:
            return None
        return ExcCodes.ILLEGAL_ADDRESS if written_by_plc(address, count) else None
