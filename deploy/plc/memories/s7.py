"""An S7 server that holds the register map in one data block, register n at byte 2n."""

from __future__ import annotations

import struct

from pydantic import BaseModel
from snap7.server import Server
from snap7.type import SrvArea

from decision.plc.s7 import Options
from decision.registers import Register
from deploy.plc.memory import WORDS


def address(options: BaseModel) -> tuple[str, int]:
    """Return where an S7 driver looks for its PLC."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    return options.host, options.port


def memory(options: BaseModel, host: str, port: int) -> Memory:
    """Return a memory with the data block that the driver wants."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    return Memory(host, port, options.db)


class Memory:
    """The PLC's data block behind python-snap7's server, which has a thread for each connection."""

    def __init__(self, host: str, port: int, block: int) -> None:
        """Name address and data block."""
        self._words = bytearray(2 * WORDS)
        self._server = Server(log=False)
        self._server.host = host
        self._server.register_area(SrvArea.DB, block, self._words)
        self._port = port

    async def serve(self) -> None:
        """Begin to answer."""
        self._server.start(self._port)

    async def close(self) -> None:
        """Answer no more."""
        self._server.stop()

    async def read(self, register: Register, slot: int = 0) -> list[int]:
        """Return a register's words."""
        at = 2 * (register.address + slot * register.words)
        return list(struct.unpack_from(f">{register.words}H", self._words, at))

    async def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        """Set a register's words."""
        struct.pack_into(f">{len(words)}H", self._words, 2 * (register.address + slot * register.words), *words)

    async def clear(self) -> None:
        """Set everything to 0."""
        self._words[:] = bytes(len(self._words))
