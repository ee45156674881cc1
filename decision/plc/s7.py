"""Siemens S7 (S7-300, 400, 1200, 1500): the PLC holds the whole map in one data block, register n at byte 2n."""

from __future__ import annotations

import logging
import struct
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from snap7.connection import ISOTCPConnection
from snap7.datatypes import S7Area, S7WordLen
from snap7.error import S7Error
from snap7.s7protocol import S7Protocol, get_return_code_description

from config.errors import DeviceError
from config.station import Host
from decision import registers
from decision.wire import Wire
from decision.words import WordsDriver

_OPERATOR: Final = 2  # kind of connection: leaves the CPU's connections for programming devices to TIA Portal
_PDU: Final = 960  # bytes: the most that any S7 CPU grants; it answers with what it has
_SMALLEST_PDU: Final = 240  # every S7 CPU grants this
_SIZE: Final = max(register.end for register in registers.TABLE)
_READ_OVERHEAD: Final = 18  # of an answer: header 12, parameters 2, head of the item 4
_REFUSED_READ: Final = 18  # of an answer: the same without data; snap7's parser calls some of them truncated
_GRANTED: Final = 0xFF
_WRITE_OVERHEAD: Final = 28  # of a request: header 10, parameters 14, head of the item 4


# snap7 also logs what it makes of an answer; the link says it, once
logging.getLogger("snap7").addHandler(logging.NullHandler())


class Options(BaseModel):
    """Where the PLC is, and its data block."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: Host = "127.0.0.1"
    port: int = Field(default=102, ge=1, le=65535)
    rack: int = Field(default=0, ge=0, le=7)
    slot: int = Field(default=1, ge=0, le=31)  # of the CPU: S7-1200 and 1500 1, S7-300 2
    db: int = Field(default=1, ge=1, le=65535)  # number of the data block; its optimised access must be off
    timeout_ms: int = Field(default=200, ge=10, le=5000)  # of connecting and of one answer


class Driver(WordsDriver):
    """A Siemens PLC that allows PUT and GET."""

    def __init__(self, options: Options) -> None:
        """Name the PLC; `open` connects."""
        super().__init__(_DataBlock(options))


class _DataBlock:
    # snap7's connection and protocol without its client, which waits 5 s for a connection and reads on after an
    # answer that is not its own
    words_per_read = (_SMALLEST_PDU - _READ_OVERHEAD) // 2
    words_per_write = (_SMALLEST_PDU - _WRITE_OVERHEAD) // 2

    def __init__(self, options: Options) -> None:
        self._options = options
        self._where = f"PLC {options.host}:{options.port}"
        self._connection = _Connection(options)
        self._protocol = S7Protocol()

    def open(self) -> None:
        self._connection.disconnect()
        self._connection = _Connection(self._options)
        self._protocol = S7Protocol()
        try:
            self._connection.connect(self._options.timeout_ms / 1000)
        except S7Error as error:
            raise self._error("no connection", error) from error
        what = "agreeing on a size of requests"
        answer = self._exchange(self._protocol.build_setup_communication_request(pdu_length=_PDU), what)
        pdu = answer["parameters"].get("pdu_length") if answer["parameters"] else None
        if pdu is None or not _SMALLEST_PDU <= pdu <= _PDU:
            self._connection.disconnect()
            raise self._error(what, f"the PLC grants {pdu} bytes, not {_SMALLEST_PDU} to {_PDU}")
        self.words_per_read = (pdu - _READ_OVERHEAD) // 2
        self.words_per_write = (pdu - _WRITE_OVERHEAD) // 2

    def close(self) -> None:
        self._connection.disconnect()

    def write(self, address: int, words: list[int]) -> None:
        what = f"writing {len(words)} registers at {address}"
        data = struct.pack(f">{len(words)}H", *words)
        answer = self._exchange(
            self._protocol.build_write_request(S7Area.DB, self._options.db, address * 2, S7WordLen.BYTE, data), what
        )
        try:
            self._protocol.check_write_response(answer)
        except S7Error as error:
            raise self._refused(what, error) from error

    def read(self, address: int, count: int) -> list[int]:
        what = f"reading {count} registers at {address}"
        answer = self._exchange(
            self._protocol.build_read_request(S7Area.DB, self._options.db, address * 2, S7WordLen.BYTE, count * 2), what
        )
        try:
            data = self._protocol.extract_read_data(answer, S7WordLen.BYTE, count * 2)
        except S7Error as error:
            raise self._refused(what, error) from error
        return list(struct.unpack(f">{count}H", bytes(data)))

    def _exchange(self, request: bytes, what: str) -> dict[str, Any]:
        try:
            self._connection.send_data(request)
            pdu = self._connection.receive_data()
            if len(pdu) == _REFUSED_READ and pdu[_REFUSED_READ - 4] != _GRANTED:
                raise self._refused(what, get_return_code_description(pdu[_REFUSED_READ - 4]))
            answer = self._protocol.parse_response(pdu)
            self._protocol.validate_pdu_reference(answer["sequence"])
        except S7Error as error:
            self._connection.disconnect()
            raise self._error(what, error) from error
        return answer

    def _refused(self, what: str, why: object) -> DeviceError:
        block = f"DB{self._options.db} must have {_SIZE} words, and no optimised access; PUT/GET must be allowed"
        return self._error(what, f"refused: {why}; {block}")

    def _error(self, what: str, why: object) -> DeviceError:
        return DeviceError(f"{self._where}: {what}: {why}")


class _Connection(ISOTCPConnection):
    def __init__(self, options: Options) -> None:
        called = _OPERATOR << 8 | options.rack << 5 | options.slot
        super().__init__(options.host, options.port, remote_tsap=called)

    def _tcp_connect(self) -> None:
        self.socket = Wire(self.host, self.port, self.timeout)
