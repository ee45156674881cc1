"""PLCs that the drivers are tried against: none has anything in common with the library of its driver."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import coupler_peers
import pytest
from coupler_peers import free_port
from ethernetip.cip.identity_info import IdentityInfo
from ethernetip.logix import data_types
from ethernetip.logix.logix_dispatcher import LogixDispatcher
from ethernetip.logix.tag_database import TagDatabase
from ethernetip.protocol.eip_adapter import EipAdapter

from decision import registers
from decision.registers import Register
from deploy.plc.memories.modbus import Memory

END = max(register.end for register in registers.TABLE)


class Peer(Protocol):
    """A PLC whose memory the test can see."""

    options: dict[str, object]

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def read(self, register: Register, slot: int = 0) -> list[int]: ...

    def write(self, register: Register, words: list[int], slot: int = 0) -> None: ...


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[object, object, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    def stop(self) -> None:
        self.run(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Simulator:
    """The memory of our own PLC simulator, which pymodbus serves."""

    def __init__(self) -> None:
        self._port = free_port()
        self.options: dict[str, object] = {"port": self._port}

    def start(self) -> None:
        self._loop = Loop()
        self._memory = self._loop.run(self._serve())

    async def _serve(self) -> Memory:
        memory = Memory("127.0.0.1", self._port)
        await memory.serve()
        return memory

    def stop(self) -> None:
        self._loop.run(self._memory.close())
        self._loop.stop()

    def read(self, register: Register, slot: int = 0) -> list[int]:
        return self._loop.run(self._memory.read(register, slot))

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        self._loop.run(self._memory.write(register, words, slot))


class Libmodbus(coupler_peers.Libmodbus):
    """A PLC's registers in a server by libmodbus: C, and nothing in common with pymodbus."""

    def __init__(self) -> None:
        super().__init__(words=END)
        self.options: dict[str, object] = {"port": self.port}

    def read(self, register: Register, slot: int = 0) -> list[int]:
        address = register.address + slot * register.words
        return list(self.memory.holding_registers[address : address + register.words])

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        for offset, word in enumerate(words):
            self.memory.holding_registers[register.address + slot * register.words + offset] = word


class Snap7:
    """A server by snap7: C++, and nothing in common with python-snap7 3, which is all Python."""

    LIBRARY = Path(sys.prefix) / "peers" / "snap7" / "lib" / "libsnap7.so"
    LOCAL_PORT = 1  # numbers of snap7's parameters and areas
    DATA_BLOCK = 5

    def __init__(self, words: int = END) -> None:
        if not self.LIBRARY.exists():
            pytest.skip(f"no {self.LIBRARY} (make installs it): the driver was NOT tried against the C++ snap7")
        self._library = ctypes.CDLL(str(self.LIBRARY))
        self._library.Srv_Create.restype = ctypes.c_void_p
        self._port = free_port()
        self.options: dict[str, object] = {"port": self._port, "db": 7}
        self._block = (ctypes.c_uint16.__ctype_be__ * words)()

    def start(self) -> None:
        self._server = ctypes.c_void_p(self._library.Srv_Create())
        port = ctypes.c_uint16(self._port)
        assert self._library.Srv_SetParam(self._server, self.LOCAL_PORT, ctypes.byref(port)) == 0
        size = ctypes.sizeof(self._block)
        assert self._library.Srv_RegisterArea(self._server, self.DATA_BLOCK, 7, ctypes.byref(self._block), size) == 0
        assert self._library.Srv_StartTo(self._server, b"127.0.0.1") == 0

    def stop(self) -> None:
        self._library.Srv_Stop(self._server)
        self._library.Srv_Destroy(ctypes.byref(self._server))

    def read(self, register: Register, slot: int = 0) -> list[int]:
        address = register.address + slot * register.words
        return list(self._block[address : address + register.words])

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        address = register.address + slot * register.words
        self._block[address : address + len(words)] = words


class CmEthernetip:
    """A Logix controller by cm-ethernetip: nothing in common with pycomm3."""

    def __init__(self, tag: str = "Andon") -> None:
        self._port = free_port()
        self.options: dict[str, object] = {"port": self._port, "tag": tag}
        tags = TagDatabase()
        self._tag = tags.add_tag(tag, data_types.INT, element_count=END)
        tags.add_tag("Whole", data_types.DINT, element_count=END)
        tags.add_tag("Short", data_types.INT, element_count=200)
        identity = IdentityInfo(product_name="PLC")
        self._adapter = EipAdapter(LogixDispatcher(tags, identity), identity)

    def start(self) -> None:
        self._loop = Loop()
        self._loop.run(self._adapter.listen("127.0.0.1", self._port))

    def stop(self) -> None:
        self._loop.run(self._adapter.close())
        self._loop.stop()

    def read(self, register: Register, slot: int = 0) -> list[int]:
        data = self._tag.get_data(2 * (register.address + slot * register.words), 2 * register.words)
        return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        data = b"".join(word.to_bytes(2, "little") for word in words)
        self._tag.set_data(data, 2 * (register.address + slot * register.words))


class Middle:
    """Stands between a driver and a PLC, and does to the PLC's answers what a test asks for.

    `watch` gets each piece that came from the driver. `tamper` gets each that came from the PLC, and the way to the
    driver; True from it ends the connection.
    """

    def __init__(self, port: int) -> None:
        self.tamper: Callable[[bytes, socket.socket], bool] | None = None
        self.watch: Callable[[bytes], object] | None = None
        self._plc = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._connections: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        """End; the driver has disconnected before."""
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in (self._thread, *self._connections):
            thread.join(5)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                driver, _ = self._listening.accept()
                self._connections.append(threading.Thread(target=self._connect, args=(driver,)))
                self._connections[-1].start()

    def _connect(self, driver: socket.socket) -> None:
        with driver, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._plc)) as plc:
            while True:
                for source in select.select([driver, plc], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is driver:
                        if self.watch is not None:
                            self.watch(data)
                        plc.sendall(data)
                    elif self.tamper is None:
                        driver.sendall(data)
                    elif self.tamper(data, driver):
                        return
