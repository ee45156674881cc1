"""A TCP connection to a PLC on which nobody can be kept waiting, however an answer trickles in."""

from __future__ import annotations

import socket
import time


class Wire(socket.socket):
    """A connection whose exchanges take `timeout_s` each: from the sending of a request to the last byte of its answer.

    A time-out of the usual kind starts again with every byte: a peer that sends one now and then holds its reader for
    good. The address is an IPv4 address, or a name: what looking up a name takes is not bounded.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        """Connect; raise OSError."""
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._timeout_s = timeout_s
        self._due_s = 0.0
        try:
            self.settimeout(timeout_s)
            self.connect((host, port))
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.close()
            raise

    def sendall(self, data: bytes, flags: int = 0, /) -> None:  # type: ignore[override]  # bytes are all that is sent
        """Send a request; the time of its exchange begins."""
        self._due_s = time.monotonic() + self._timeout_s
        self.settimeout(self._timeout_s)
        super().sendall(data, flags)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Return what came of the answer, at most `size` bytes, none at its end; raise OSError."""
        left_s = self._due_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left_s)
        return super().recv(size, flags)

    def receive(self, size: int) -> bytes:
        """Return the next `size` bytes of the answer; raise OSError."""
        data = b""
        while len(data) < size:
            more = self.recv(size - len(data))
            if not more:
                raise ConnectionError("closed by the PLC in mid-answer")
            data += more
        return data
