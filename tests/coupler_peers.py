"""Remote I/O couplers that the drivers are tried against: libmodbus is C and has nothing in common with pymodbus."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from ctypes.util import find_library

import pytest

COILS, INPUTS, WORDS = 64, 64, 64


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class _Mapping(ctypes.Structure):
    """modbus_mapping_t of libmodbus 3.1."""

    _fields_ = (
        *((f"int{number}", ctypes.c_int) for number in range(8)),
        ("coils", ctypes.POINTER(ctypes.c_uint8)),
        ("inputs", ctypes.POINTER(ctypes.c_uint8)),
        ("input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("holding_registers", ctypes.POINTER(ctypes.c_uint16)),
    )


class Libmodbus:
    """A coupler by libmodbus; `after` runs after every request that it has answered."""

    def __init__(self, port: int = 0, after: Callable[[], None] = lambda: None, words: int = WORDS) -> None:
        name = find_library("modbus")
        if name is None:
            pytest.skip("libmodbus is not installed (Debian: libmodbus5): the driver was NOT tried against it")
        self._library = ctypes.CDLL(name)
        self._library.modbus_new_tcp.restype = ctypes.c_void_p
        self._library.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
        self.port = port or free_port()
        self.memory = self._library.modbus_mapping_new(COILS, INPUTS, words, WORDS).contents
        self._after = after

    def start(self) -> None:
        self._context = ctypes.c_void_p(self._library.modbus_new_tcp(b"127.0.0.1", self.port))
        self._listening = ctypes.c_int(self._library.modbus_tcp_listen(self._context, 1))
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        _shut(self._listening.value)
        self.hang_up()
        self._thread.join(5)
        os.close(self._listening.value)
        self._library.modbus_free(self._context)

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        _shut(self._library.modbus_get_socket(self._context))

    def _serve(self) -> None:
        query = (ctypes.c_uint8 * 260)()
        mapping = ctypes.byref(self.memory)
        while not self._stopping:
            if self._library.modbus_tcp_accept(self._context, ctypes.byref(self._listening)) < 0:
                return
            while (length := self._library.modbus_receive(self._context, query)) >= 0:
                self._library.modbus_reply(self._context, query, length, mapping)
                self._after()
            self._library.modbus_close(self._context)


def _shut(descriptor: int) -> None:
    """End what a descriptor speaks to; closing it is libmodbus' own business."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as end:
        end.shutdown(socket.SHUT_RDWR)
