"""A PLC that stamps when its registers change: a Modbus server in C (libmodbus), in a process of its own.

It shares the register map and the clock with the station and nothing else. Where libmodbus is not installed pymodbus
takes its place: the library of the station's own driver, and slower; the report says so.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import socket
import time
from ctypes.util import find_library
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NamedTuple

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from config.messages import GateOutcome
from decision import registers
from decision.registers import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymodbus.constants import ExcCodes

SPARE = registers.OUTCOMES.end  # four words that the map does not use, for a bare client
_END = SPARE + registers.RESULTS.words
_WRITE_REGISTERS = 16  # Modbus function code
_HEARTBEAT_NS = 50_000_000
_QUERY_BYTES = 260
_HEADER_BYTES = 7


class Seen(NamedTuple):
    """When a result's request came to the PLC, and when its registers had changed, monotonic."""

    request_ns: int
    changed_ns: int


class Observer(NamedTuple):
    """What the observer says of itself when it can be reached."""

    name: str
    port: int


def libmodbus() -> str | None:
    """Return the library's name; None where it is not installed."""
    return find_library("modbus")


def fifo(priority: int) -> bool:
    """Run this process under SCHED_FIFO; False where that is not allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def observe(channel: Connection, priority: int, library: str | None) -> None:
    """Be the PLC until something comes through the channel; then send what was seen, by sequence.

    `library` is libmodbus' name; None: pymodbus takes its place. Sends an Observer first. Outcomes are written at once:
    the station reads them back as from a gate.
    """
    how = f"under SCHED_FIFO {priority}" if fifo(priority) else "WITHOUT SCHED_FIFO, its own delays are in the figures"
    if library:
        _Libmodbus(ctypes.CDLL(library), channel, how).serve()
    else:
        asyncio.run(_Pymodbus(channel, how).serve())


class _Mapping(ctypes.Structure):
    """modbus_mapping_t of libmodbus 3.1."""

    _fields_ = (
        *((f"int{number}", ctypes.c_int) for number in range(8)),
        *((f"table{number}", ctypes.POINTER(ctypes.c_uint8)) for number in range(2)),
        *((f"words{number}", ctypes.POINTER(ctypes.c_uint16)) for number in range(2)),
    )


class _Results:
    """What of the ring of results has been seen."""

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}

    def take(self, words: Sequence[int], seen: Seen) -> list[int]:
        """Note the results among the words of whole slots; return the sequences that are new."""
        width = registers.RESULTS.words
        found = [registers.read_result(words[at : at + width]) for at in range(0, len(words) - width + 1, width)]
        new = [result.sequence for result in found if result is not None and result.sequence not in self.seen]
        self.seen |= dict.fromkeys(new, seen)
        return new


def _outcome(sequence: int, number: int) -> tuple[int, list[int]]:
    """Return address and words of outcome `number` (from 0)."""
    address = registers.OUTCOMES.address + registers.slot(number) * registers.OUTCOMES.words
    return address, registers.outcome_words(Outcome(sequence, GateOutcome.PASSED))


def _is_slot(address: int) -> bool:
    ring = registers.RESULTS
    return ring.address <= address < ring.end and (address - ring.address) % ring.words == 0


class _Libmodbus:
    def __init__(self, library: ctypes.CDLL, channel: Connection, how: str) -> None:
        self._library = library
        self._channel = channel
        library.modbus_new_tcp.restype = ctypes.c_void_p
        library.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
        version = ".".join(
            str(ctypes.c_uint.in_dll(library, f"libmodbus_version_{part}").value)
            for part in ("major", "minor", "micro")
        )
        self._name = f"libmodbus {version}, a process of its own {how}"
        self._context = ctypes.c_void_p(library.modbus_new_tcp(b"127.0.0.1", 0))
        self._mapping = library.modbus_mapping_new(0, 0, _END, 0)
        self._words = self._mapping.contents.words1
        self._query = (ctypes.c_uint8 * _QUERY_BYTES)()
        self._results = _Results()
        self._outcomes = 0

    def serve(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self._channel.send(Observer(self._name, listening.getsockname()[1]))
        clients: dict[int, socket.socket] = {}
        poller = select.poll()
        for one in (listening.fileno(), self._channel.fileno()):
            poller.register(one, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                request_ns = time.monotonic_ns()
                if descriptor == self._channel.fileno():
                    self._channel.send(self._results.seen)
                    return
                if descriptor == listening.fileno():
                    client, _ = listening.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    clients[client.fileno()] = client
                    poller.register(client, select.POLLIN)
                elif not self._answer(descriptor, request_ns):
                    poller.unregister(descriptor)
                    clients.pop(descriptor).close()

    def _answer(self, descriptor: int, request_ns: int) -> bool:
        self._library.modbus_set_socket(self._context, descriptor)
        length = self._library.modbus_receive(self._context, self._query)
        if length < 0:
            return False
        self._words[registers.PLC_HEARTBEAT.address] = request_ns // _HEARTBEAT_NS % registers.WORD
        self._library.modbus_reply(self._context, self._query, length, self._mapping)
        changed_ns = time.monotonic_ns()
        code, high, low, _, count = self._query[_HEADER_BYTES : _HEADER_BYTES + 5]
        address = high << 8 | low
        if code == _WRITE_REGISTERS and _is_slot(address):
            for sequence in self._results.take(self._words[address : address + count], Seen(request_ns, changed_ns)):
                self._tell(sequence)
        return True

    def _tell(self, sequence: int) -> None:
        address, words = _outcome(sequence, self._outcomes)
        self._outcomes += 1
        for offset, word in enumerate(words):
            self._words[address + offset] = word
        for offset, word in enumerate(registers.words(self._outcomes)):
            self._words[registers.OUTCOME_COUNT.address + offset] = word


class _Pymodbus:
    def __init__(self, channel: Connection, how: str) -> None:
        self._channel = channel
        self._name = f"pymodbus' simulator, for libmodbus is not installed (Debian: libmodbus5), {how}"
        self._results = _Results()
        self._outcomes = 0
        self._cells: list[int] = []

    async def serve(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        cells = SimData(0, count=_END, values=0, datatype=DataType.REGISTERS)
        server = ModbusTcpServer(SimDevice(0, simdata=[cells], action=self._work), address=("127.0.0.1", port))
        await server.serve_forever(background=True)
        self._channel.send(Observer(self._name, port))
        ending = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._channel.fileno(), ending.set)
        await ending.wait()
        self._channel.send(self._results.seen)
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here

    async def _work(
        self,
        _function: int,
        _start: int,
        address: int,
        _count: int,
        cells: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        now_ns = time.monotonic_ns()
        cells[registers.PLC_HEARTBEAT.address] = now_ns // _HEARTBEAT_NS % registers.WORD
        if values is not None and _is_slot(address):
            for sequence in self._results.take([int(word) for word in values], Seen(now_ns, now_ns)):
                at, words = _outcome(sequence, self._outcomes)
                self._outcomes += 1
                cells[at : at + len(words)] = words
                cells[registers.OUTCOME_COUNT.address : registers.OUTCOME_COUNT.end] = registers.words(self._outcomes)
        return None
