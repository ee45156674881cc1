"""EtherNet/IP to Logix controllers: one array of INT holds the whole map, its index is the register."""

from __future__ import annotations

import contextlib
import struct
from typing import Any, Final

from pycomm3 import CIPDriver
from pycomm3.cip import PADDED_EPATH, UINT, DataSegment, LogicalSegment, Services
from pycomm3.exceptions import PycommError, ResponseError
from pycomm3.packets.ethernetip import SendUnitDataRequestPacket
from pydantic import BaseModel, ConfigDict, Field

from config.errors import DeviceError
from decision import registers
from decision.wire import Wire
from decision.words import WordsDriver

_NAME: Final = "[A-Za-z_][A-Za-z0-9_]{0,39}"
_INT: Final = UINT.encode(0xC3)  # type code of a signed 16-bit integer
_CONNECTION: Final = 500  # bytes of a message: what a Forward_Open of the older kind grants, on every controller
_WRITE_OVERHEAD: Final = 8  # of a message: sequence 2, service 1, length of the path 1, type 2, count 2
_SIZE: Final = max(register.end for register in registers.TABLE)
_HEADER: Final = 24  # bytes of EtherNet/IP's encapsulation
_SEND_UNIT_DATA: Final = b"\x70\x00"


class Options(BaseModel):
    """Where the controller is, and its tag."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = Field(default="127.0.0.1", pattern=r"^[^\s:/\\,]+$")  # pycomm3 has a route behind it
    port: int = Field(default=44818, ge=1, le=65534)
    slot: int = Field(default=0, ge=0, le=254)  # of the controller in its backplane; CompactLogix 0
    tag: str = Field(default="Andon", pattern=f"^(Program:{_NAME}\\.)?{_NAME}$")  # INT[n]; External Access Read/Write
    timeout_ms: int = Field(default=200, ge=10, le=5000)  # of connecting and of one answer


class Driver(WordsDriver):
    """A Logix controller."""

    def __init__(self, options: Options) -> None:
        """Name the controller; `open` connects."""
        super().__init__(_ArrayTag(options))


class _ArrayTag:
    words_per_read = 200  # a message of 500 bytes holds 246; there are servers that end at 480 bytes

    def __init__(self, options: Options) -> None:
        self._options = options
        self._where = f"PLC {options.host}:{options.port}"
        self._name = [DataSegment(part) for part in options.tag.split(".")]
        self._controller = _Controller(options)
        self.words_per_write = (_CONNECTION - _WRITE_OVERHEAD - len(self._path(0xFFFF))) // 2

    def open(self) -> None:
        self.close()
        self._controller = _Controller(self._options)
        try:
            refused = self._controller.connect()
        except PycommError as error:
            raise self._lost("no connection", error) from error
        if refused:
            raise self._error("no connection", f"refused: {refused}; the controller is in slot {self._options.slot}?")

    def close(self) -> None:
        with contextlib.suppress(PycommError):
            self._controller.close()  # type: ignore[no-untyped-call]  # pycomm3 has no annotation here

    def write(self, address: int, words: list[int]) -> None:
        data = struct.pack(f"<{len(words)}H", *words)
        request = _INT + UINT.encode(len(words)) + data
        self._ask(Services.write_tag, address, request, f"writing {len(words)} registers at {address}")

    def read(self, address: int, count: int) -> list[int]:
        what = f"reading {count} registers at {address}"
        answer = self._ask(Services.read_tag, address, UINT.encode(count), what)
        kind, data = answer[:2], answer[2:]
        if kind != _INT:
            raise self._error(what, f"{self._options.tag} is no array of INT; it must be INT[{_SIZE}]")
        if len(data) != count * 2:
            raise self._error(what, f"{len(data)} bytes came")
        return list(struct.unpack(f"<{count}H", data))

    def _ask(self, service: bytes, address: int, request: bytes, what: str) -> bytes:
        try:
            return self._controller.ask(service, self._path(address), request)
        except ResponseError as error:
            raise self._error(what, f"refused: {error}; {self._options.tag} must be INT[{_SIZE}]") from error
        except PycommError as error:
            raise self._lost(what, error) from error

    def _path(self, address: int) -> bytes:
        path: bytes = PADDED_EPATH.encode([*self._name, LogicalSegment(address, "member_id")], length=True)
        return path

    def _lost(self, what: str, error: BaseException) -> DeviceError:
        self._controller.drop()
        while error.__cause__ is not None:  # pycomm3 says only that something failed; what did is below
            error = error.__cause__
        return self._error(what, error)

    def _error(self, what: str, why: object) -> DeviceError:
        return DeviceError(f"{self._where}: {what}: {why}")


class _Controller(CIPDriver):
    """A session, and in it one connection of class 3 to the controller behind it."""

    def __init__(self, options: Options) -> None:
        super().__init__(f"{options.host}:{options.port}/bp/{options.slot}")
        self._cfg["extended forward open"] = False
        self._cfg["connection_size"] = _CONNECTION
        self._timeout_s = options.timeout_ms / 1000

    def connect(self) -> str | None:
        """Return why the controller refuses, or None; raise PycommError."""
        self._sock = _Frames(self._timeout_s)  # type: ignore[assignment]  # in its Socket's place, by its methods
        if not self.open():  # type: ignore[no-untyped-call]  # pycomm3 has no annotation here
            return "no session"
        if not self._forward_open():  # type: ignore[no-untyped-call]  # pycomm3 has no annotation here
            return "no connection of class 3"
        return None

    def ask(self, service: bytes, path: bytes, data: bytes) -> bytes:
        """Return the answer's data; raise ResponseError where the controller refuses, PycommError where it is lost."""
        request = SendUnitDataRequestPacket(self._sequence).add(service, path, data)
        answer: Any = self.send(request)  # its attributes have no annotations
        if not answer.is_valid() or answer.service != service:
            raise ResponseError(answer.error or "another service answered")
        return bytes(answer.data)

    def drop(self) -> None:
        """Leave without a word: whoever does not answer is not asked to agree."""
        self._session = 0
        self._target_is_connected = False
        self.close()  # type: ignore[no-untyped-call]  # pycomm3 has no annotation here


class _Frames:
    """What pycomm3 sends and receives by: its own reads on for good where the connection is cut in mid-answer."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._wire: Wire | None = None
        self._sent = b""

    def connect(self, host: str, port: int) -> None:
        self._wire = Wire(host, port, self._timeout_s)

    def send(self, message: bytes) -> None:
        self._sent = message
        self._open_wire().sendall(message)

    def receive(self) -> bytes:
        wire = self._open_wire()
        frame = wire.receive(_HEADER)
        frame += wire.receive(int.from_bytes(frame[2:4], "little"))
        numbers = slice(44, 46) if self._sent.startswith(_SEND_UNIT_DATA) else slice(12, 20)  # sequence, or context
        if frame[:2] != self._sent[:2] or frame[numbers] != self._sent[numbers]:
            raise ConnectionError("the answer is not one to this request")
        return frame

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise ConnectionError("not connected")
        return self._wire
