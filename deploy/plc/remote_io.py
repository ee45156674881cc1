"""A Modbus TCP coupler in a few lines, for `decision/io/modbus.py` to talk to: no library has a part in it.

Requests and answers are those of the MODBUS Application Protocol V1.1b3, 6.1 to 6.12, in the frames of the Messaging
Implementation Guide V1.0b. What it shows is true at the moment of each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Sequence

from config.errors import ConfigurationError
from decision.io.modbus import Options
from deploy.plc.track import Track

_HEADER = struct.Struct(">HHHB")  # transaction, protocol, bytes that follow, unit
_TWO = struct.Struct(">HH")
_WORD = struct.Struct(">H")
_WORD_BITS = 16
_READ_COILS, _WRITE_COILS = 1, 15  # function codes
_READ_BITS, _READ_WORDS, _WRITE_WORDS = (_READ_COILS, 2), (3, 4), (6, 16)
_REFUSED = 0x80
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS = 1, 2


class RemoteIo:
    """The coupler of a belt; its outputs go off when it was not written for as long as its watchdog waits."""

    def __init__(self, track: Track, options: Options, watchdog_ms: float, host: str, port: int) -> None:
        """Name the address to listen at."""
        self._track = track
        self._options = options
        self._watchdog_ns = round(watchdog_ms * 1e6)
        self._address = host, port
        self._coils = [False] * options.outputs
        self._written_ns = 0
        self._talks: set[asyncio.StreamWriter] = set()

    async def serve(self) -> None:
        """Begin to answer; raise ConfigurationError where the address cannot be had."""
        try:
            self._server = await asyncio.start_server(self._talk, *self._address)
        except OSError as error:
            raise ConfigurationError(f"io: {self._address[0]}:{self._address[1]}: {error.strerror}") from error

    async def close(self) -> None:
        """Answer no more."""
        self._server.close()
        for writer in self._talks:
            writer.close()

    def turn(self, now_ns: int) -> None:
        """Move the belt on, the gates as the outputs have them."""
        if now_ns - self._written_ns > self._watchdog_ns:
            self._coils = [False] * len(self._coils)
        self._track.outputs = tuple(self._coils)
        self._track.move(now_ns)

    def output(self, number: int) -> bool:
        """Tell whether an output is on."""
        return self._coils[number]

    def switch_off(self) -> None:
        """Put all outputs off, as without power."""
        self._coils = [False] * len(self._coils)
        self._written_ns = 0

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                transaction, protocol, length, unit = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                answer = self._answer(await reader.readexactly(length - 1))
                writer.write(_HEADER.pack(transaction, protocol, len(answer) + 1, unit) + answer)
                await writer.drain()
        self._talks.discard(writer)
        writer.close()

    def _answer(self, request: bytes) -> bytes:
        now_ns = time.monotonic_ns()
        self.turn(now_ns)
        try:
            return self._obey(request, now_ns)
        except (IndexError, struct.error):
            return bytes([request[0] | _REFUSED, _ILLEGAL_ADDRESS])

    def _obey(self, request: bytes, now_ns: int) -> bytes:
        address, count = _TWO.unpack_from(request, 1)
        match request[0]:
            case function if function in _READ_BITS:
                bits = self._coils if function == _READ_COILS else self._inputs(now_ns)
                first = self._options.output_address if function == _READ_COILS else self._options.input_address
                data = _packed(_slice(bits, address - first, count))
            case function if function in _READ_WORDS:
                data = b"".join(_WORD.pack(self._word(number)) for number in range(address, address + count))
            case function if function == _WRITE_COILS:
                self._write(address, [bool(request[6 + number // 8] >> number % 8 & 1) for number in range(count)])
                return request[:5]
            case function if function in _WRITE_WORDS:  # the watchdog's register, or none that means anything here
                return request[:5]
            case function:
                return bytes([function | _REFUSED, _ILLEGAL_FUNCTION])
        return bytes([function, len(data)]) + data

    def _inputs(self, now_ns: int) -> list[bool]:
        return [self._track.input(number, now_ns) for number in range(self._options.inputs)]

    def _word(self, address: int) -> int:
        for number, counter in enumerate(self._options.counters):
            words = counter.bits // _WORD_BITS
            if counter.address <= address < counter.address + words:
                low = address - counter.address == (0 if words == 1 or counter.low_word_first else 1)
                return self._track.count(number) >> (0 if low else _WORD_BITS) & 0xFFFF
        return 0

    def _write(self, address: int, bits: Sequence[bool]) -> None:
        first = address - self._options.output_address
        if first < 0 or first + len(bits) > len(self._coils):
            raise IndexError(address)
        self._coils[first : first + len(bits)] = bits
        self._written_ns = time.monotonic_ns()
        self._track.outputs = tuple(self._coils)


def _slice(bits: Sequence[bool], first: int, count: int) -> Sequence[bool]:
    if first < 0 or first + count > len(bits):
        raise IndexError(first)
    return bits[first : first + count]


def _packed(bits: Sequence[bool]) -> bytes:
    data = bytearray(-(-len(bits) // 8))
    for number, bit in enumerate(bits):
        data[number // 8] |= bit << number % 8
    return bytes(data)
