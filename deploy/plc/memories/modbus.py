"""A Modbus TCP server that holds the register map in holding registers."""

from __future__ import annotations

import socket

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from config.errors import ConfigurationError
from decision import registers
from decision.registers import Register, Writer

_WRITE_REGISTERS = 16  # Modbus function codes
_READ_REGISTERS = 3


class Memory:
    """The PLC's registers behind a Modbus TCP server; only the PLC's own program writes what is the PLC's."""

    def __init__(self, host: str, port: int) -> None:
        """Take the address; raise ConfigurationError where that cannot be. Needs a running event loop."""
        try:
            socket.create_server((host, port)).close()
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port}: the PLC simulator cannot listen here: {error.strerror}; free port {port} or name "
                "another in plc.options.port"
            ) from error
        end = max(register.end for register in registers.TABLE)
        cells = SimData(0, count=end, values=0, datatype=DataType.REGISTERS)
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
        self._own = True
        await self._server.async_setValues(0, _WRITE_REGISTERS, register.address + slot * register.words, words)
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
        touched = (one for one in registers.TABLE if one.address < address + count and address < one.end)
        return ExcCodes.ILLEGAL_ADDRESS if any(one.writer is Writer.PLC for one in touched) else None
