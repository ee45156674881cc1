"""What a file in `deploy/plc/memories` is: a PLC's memory behind a real server of one protocol.

It defines
    address(options) -> (host, port)               where the station looks for the PLC, by its driver's `Options`
    memory(options, host, port) -> Memory          the memory, to be served there
"""

from __future__ import annotations

from typing import Final, Protocol

from pydantic import BaseModel

from config import plugins
from config.errors import ConfigurationError
from decision import registers
from decision.registers import Register, Writer

WORDS: Final = max(register.end for register in registers.TABLE)  # of the whole map


class Memory(Protocol):
    """The register map, served to the station; its methods are the PLC's own program's."""

    async def serve(self) -> None:
        """Begin to answer; raise ConfigurationError where the address cannot be had."""

    async def close(self) -> None:
        """Answer no more."""

    async def read(self, register: Register, slot: int = 0) -> list[int]:
        """Return a register's words, as they are at this moment."""

    async def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        """Set a register's words, all at once."""

    async def clear(self) -> None:
        """Set everything to 0, as a cold start does."""


class Protocols:
    """The protocols that there is a server for."""

    PACKAGE = "deploy.plc.memories"

    @classmethod
    def check(cls, protocol: str) -> None:
        """Raise ConfigurationError where no memory speaks a protocol."""
        known = plugins.names(cls.PACKAGE)
        if protocol not in known:
            raise ConfigurationError(f"plc.type {protocol!r}: the PLC simulator speaks {', '.join(known)} only")

    @classmethod
    def address(cls, protocol: str, options: BaseModel) -> tuple[str, int]:
        """Return host and port where a driver with `options` looks for its PLC."""
        host, port = plugins.load(cls.PACKAGE, protocol).address(options)
        return str(host), int(port)

    @classmethod
    def memory(cls, protocol: str, options: BaseModel, host: str, port: int) -> Memory:
        """Return the memory that a driver with `options` can talk to."""
        made: Memory = plugins.load(cls.PACKAGE, protocol).memory(options, host, port)
        return made


def written_by_plc(address: int, count: int) -> bool:
    """Tell whether any of so many words is the PLC's alone."""
    touched = (one for one in registers.TABLE if one.address < address + count and address < one.end)
    return any(one.writer is Writer.PLC for one in touched)
