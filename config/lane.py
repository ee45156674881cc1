"""The lane: messages between two processes of one machine, over Unix sockets of kind SEQPACKET.

One system call a message, the reader wakes at once, and the kernel tells of a dead peer as it dies. ZeroMQ, with its
threads between, takes ten times as long (docs/decisions/0013-the-lane.md). A packet holds lines of `kind/version`, a
blank, the JSON header; behind an empty line the payload of the last one. It is never cut: what is longer is not sent.
"""

from __future__ import annotations

import select
import socket as sockets
from typing import TYPE_CHECKING

from config.errors import ConfigurationError, MessageError
from config.log import Condition
from config.messages import decode, encode

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from config.messages import AnyMessage, Buffer

    Handle = Callable[[AnyMessage, list[Buffer], bytes], None]

_PACKET_BYTES = 128 * 1024  # less than the least that a system lets wait in a socket (net.core.wmem_default)
_BURST = 64
_TOGETHER = 64  # messages in a packet: the longest header is a few hundred bytes
_END = b"\n\n"  # of the headers: JSON on the wire has no line ends


class Lane:
    """The connections of one end, all behind one descriptor."""

    def __init__(self, handle: Handle, lost: Callable[[bytes], None], counters: Counter[str]) -> None:
        """Call `handle(message, payload, peer)` for what comes, and `lost(peer)` as soon as a peer has died."""
        self.peers: dict[bytes, sockets.socket] = {}
        self._handle = handle
        self._lost = lost
        self._malformed = Condition("malformed_message", counters)
        self._names: dict[int, bytes] = {}
        self._packet = memoryview(bytearray(_PACKET_BYTES))
        self._listener: sockets.socket | None = None
        self._came = 0
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return the descriptor that can be read while something waits for `receive`."""
        return self._epoll.fileno()

    def listen(self, path: Path) -> None:
        """Let peers come to `path`; raise ConfigurationError where another process holds it."""
        listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        listener.setblocking(False)
        try:
            with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise ConfigurationError(f"{path}: cannot bind: another process of its kind is running")
            path.unlink(missing_ok=True)  # of a dead run
            listener.bind(str(path))
            listener.listen()
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot bind: {error.strerror or error}") from error
        self._listener = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def connect(self, path: Path, peer: bytes) -> bool:
        """Go to the process that listens at `path`, `peer` from now on; False while there is none."""
        try:
            connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        except OSError:  # this process has as many files open as it may: it is asked again
            return False
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            return False
        self._join(connection, peer)
        return True

    def send(self, peer: bytes, messages: Sequence[AnyMessage], payload: Buffer = b"") -> bool:
        """Send without waiting, a payload only with a single message; False if the peer is gone or takes nothing more.

        False, too, where payload and message are too long for a packet.
        """
        connection = self.peers.get(peer)
        if connection is None:
            return False
        try:
            for start in range(0, len(messages), _TOGETHER):
                head = b"\n".join([b" ".join(encode(message)) for message in messages[start : start + _TOGETHER]])
                if not payload:
                    connection.send(head, sockets.MSG_NOSIGNAL)
                elif len(head) + len(_END) + len(payload) > _PACKET_BYTES:
                    return False
                else:
                    connection.sendmsg((head, _END, payload), (), sockets.MSG_NOSIGNAL)
        except OSError:  # it is gone, or so far behind that it gets nothing more
            return False
        return True

    def receive(self) -> None:
        """Handle what waits, of each peer a burst at most."""
        for _ in range(_BURST):
            ready = self._epoll.poll(0)  # asks whether there is more at a quarter of what reading in vain costs
            if not ready:
                return
            for descriptor, _ in ready:
                if self._listener is not None and descriptor == self._listener.fileno():
                    self._accept(self._listener)
                else:
                    self._receive(descriptor)

    def close(self) -> None:
        """Close all connections."""
        self._epoll.close()
        for connection in (self._listener, *self.peers.values()):
            if connection is not None:
                connection.close()

    def _accept(self, listener: sockets.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # it went before it was let in
        self._came += 1
        self._join(connection, b"lane.%d" % self._came)

    def _join(self, connection: sockets.socket, peer: bytes) -> None:
        connection.setblocking(False)
        self.peers[peer] = connection
        self._names[connection.fileno()] = peer
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _leave(self, peer: bytes) -> None:
        connection = self.peers.pop(peer, None)
        if connection is None:
            return
        del self._names[connection.fileno()]
        self._epoll.unregister(connection.fileno())
        connection.close()
        self._lost(peer)

    def _receive(self, descriptor: int) -> None:
        peer = self._names.get(descriptor)
        if peer is None:
            return  # it left while this round was handled
        try:
            size = self.peers[peer].recv_into(self._packet)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._leave(peer)
            return
        head, _, payload = bytes(self._packet[:size]).partition(_END)
        for line in head.split(b"\n"):
            self._take(line, payload, peer)

    def _take(self, line: bytes, payload: bytes, peer: bytes) -> None:
        try:
            message, _ = decode(line.split(b" ", 1))
        except MessageError as error:
            self._malformed.occur(error=str(error), peer=peer.decode())
            return
        self._malformed.end()
        self._handle(message, [payload] if payload else [], peer)
