"""A Logix controller that holds the register map in one array of INT; its index is the register."""

from __future__ import annotations

import struct

from ethernetip.cip.identity_info import IdentityInfo  # type: ignore[import-untyped]  # it has no annotations
from ethernetip.logix import data_types  # type: ignore[import-untyped]  # the same
from ethernetip.logix.logix_dispatcher import LogixDispatcher  # type: ignore[import-untyped]  # the same
from ethernetip.logix.tag_database import TagDatabase  # type: ignore[import-untyped]  # the same
from ethernetip.protocol.eip_adapter import EipAdapter  # type: ignore[import-untyped]  # the same
from pydantic import BaseModel

from decision.plc.ethernetip import Options
from decision.registers import Register
from deploy.plc.memory import WORDS


def address(options: BaseModel) -> tuple[str, int]:
    """Return where an EtherNet/IP driver looks for its controller."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    return options.host, options.port


def memory(options: BaseModel, host: str, port: int) -> Memory:
    """Return a memory with the tag that the driver wants."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    return Memory(host, port, options.tag)


class Memory:
    """The controller's tag behind cm-ethernetip's adapter."""

    def __init__(self, host: str, port: int, tag: str) -> None:
        """Name address and tag."""
        tags = TagDatabase()
        self._tag = tags.add_tag(tag, data_types.INT, element_count=WORDS)
        identity = IdentityInfo(product_name="Andon PLC simulator")
        self._adapter = EipAdapter(LogixDispatcher(tags, identity), identity)
        self._address = host, port

    async def serve(self) -> None:
        """Begin to answer."""
        await self._adapter.listen(*self._address)

    async def close(self) -> None:
        """Answer no more."""
        await self._adapter.close()

    async def read(self, register: Register, slot: int = 0) -> list[int]:
        """Return a register's words."""
        at = 2 * (register.address + slot * register.words)
        return list(struct.unpack(f"<{register.words}H", bytes(self._tag.get_data(at, 2 * register.words))))

    async def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        """Set a register's words."""
        at = 2 * (register.address + slot * register.words)
        self._tag.set_data(struct.pack(f"<{len(words)}H", *words), at)

    async def clear(self) -> None:
        """Set everything to 0."""
        self._tag.set_data(bytes(2 * WORDS), 0)
