"""Frames from a grabber to its workers and their answers back.

On one machine they cross a Unix socket of kind SEQPACKET, the lane: one system call a message, the reader wakes at
once, and the kernel tells of a dead peer as it dies. ZeroMQ, with its threads between, takes ten times as long
(docs/decisions/0013-the-lane.md); it carries frames to other machines. Only an endpoint's address decides: `ipc://` is
a lane. A packet holds lines of `kind/version`, a blank, the JSON header; pixels lie in shared memory.
"""

from __future__ import annotations

import select
import socket as sockets
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from config import bus
from config.errors import ConfigurationError, MessageError
from config.log import Condition
from config.messages import decode, encode

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from config.messages import AnyMessage, Buffer

    Handle = Callable[[AnyMessage, list[Buffer], bytes], None]
    Sources = dict[bus.Socket | int, Callable[[], None]]  # what Service.watch takes

_LOCAL = "ipc://"
_PACKET_BYTES = 65536
_BURST = 64
_TOGETHER = 64  # messages in a packet: the longest header is a few hundred bytes


def is_local(endpoint: str) -> bool:
    """Tell whether frames of this endpoint stay in the memory of this machine."""
    return endpoint.startswith(_LOCAL)


class _Lane:
    """The connections of one end, all behind one descriptor."""

    def __init__(self, handle: Handle, lost: Callable[[bytes], None], counters: Counter[str]) -> None:
        self.peers: dict[bytes, sockets.socket] = {}
        self._handle = handle
        self._lost = lost
        self._malformed = Condition("malformed_message", counters)
        self._names: dict[int, bytes] = {}
        self._packet = bytearray(_PACKET_BYTES)
        self.epoll = select.epoll()

    def join(self, connection: sockets.socket, peer: bytes) -> None:
        connection.setblocking(False)
        self.peers[peer] = connection
        self._names[connection.fileno()] = peer
        self.epoll.register(connection.fileno(), select.EPOLLIN)

    def leave(self, peer: bytes) -> None:
        connection = self.peers.pop(peer, None)
        if connection is None:
            return
        del self._names[connection.fileno()]
        self.epoll.unregister(connection.fileno())
        connection.close()
        self._lost(peer)

    def send(self, peer: bytes, messages: Sequence[AnyMessage]) -> bool:
        connection = self.peers.get(peer)
        if connection is None:
            return False
        try:
            for start in range(0, len(messages), _TOGETHER):
                lines = [b" ".join(encode(message)) for message in messages[start : start + _TOGETHER]]
                connection.send(b"\n".join(lines), sockets.MSG_NOSIGNAL)
        except OSError:  # it is gone, or so far behind that it gets nothing more
            return False
        return True

    def receive(self, descriptor: int) -> None:
        """Handle what waits on one connection, a burst at most."""
        peer = self._names.get(descriptor)
        if peer is None:
            return  # it left while this round was handled
        connection = self.peers[peer]
        for _ in range(_BURST):
            try:
                size = connection.recv_into(self._packet)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if not size:
                self.leave(peer)
                return
            for line in bytes(memoryview(self._packet)[:size]).split(b"\n"):
                self._take(line, peer)
            if peer not in self.peers:
                return

    def _take(self, line: bytes, peer: bytes) -> None:
        try:
            message, _payload = decode(line.split(b" ", 1))
        except MessageError as error:
            self._malformed.occur(error=str(error), peer=peer.decode())
            return
        self._malformed.end()
        self._handle(message, [], peer)

    def close(self) -> None:
        self.epoll.close()
        for connection in self.peers.values():
            connection.close()


class _Far:
    """What comes from other machines: pixels stay in the memory that ZeroMQ received them into."""

    def __init__(self, socket: bus.Socket, handle: Handle, counters: Counter[str]) -> None:
        self._socket = socket
        self._handle = handle
        self._malformed = Condition("malformed_message", counters)
        self._routed = socket.type == zmq.ROUTER

    def __call__(self) -> None:
        """Handle what waits, a burst at most."""
        for _ in range(_BURST):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer = parts.pop(0).bytes if self._routed else b""
            if len(parts) == 1 and not len(parts[0]):
                continue  # a probe of reachable()
            try:
                message, _ = decode([part.bytes for part in parts[:2]])
            except MessageError as error:
                self._malformed.occur(error=str(error), peer=peer.decode(errors="replace"))
                continue
            self._malformed.end()
            self._handle(message, [part.buffer for part in parts[2:]], peer)


class Giver:
    """The grabber's end: workers come to it, on this machine and from others."""

    def __init__(
        self,
        sockets_of: bus.Bus,
        endpoints: Sequence[str],
        handle: Handle,
        lost: Callable[[bytes], None],
        counters: Counter[str],
    ) -> None:
        """Listen at each of `endpoints`; raise ConfigurationError where another process holds one.

        What a worker sends goes to `handle(message, payload, peer)`; `lost(peer)` is called as soon as the kernel tells
        of a worker's end on this machine. Those of other machines must be asked for, see `reachable`.
        """
        self._lane = _Lane(handle, lost, counters)
        self._listener: sockets.socket | None = None
        self._remote: bus.Socket | None = None
        self._came = 0
        self.sources: Sources = {self._lane.epoll.fileno(): self._receive}
        for endpoint in filter(is_local, endpoints):
            self._listen(Path(endpoint.removeprefix(_LOCAL)))
        if remote := [endpoint for endpoint in endpoints if not is_local(endpoint)]:
            self._remote = sockets_of.bind(zmq.ROUTER, *remote)
            self.sources[self._remote] = _Far(self._remote, handle, counters)

    def send(self, peer: bytes, message: AnyMessage, payload: Sequence[Buffer] = ()) -> bool:
        """Send without waiting; False if the worker is gone or takes nothing more."""
        if peer in self._lane.peers:
            return self._lane.send(peer, (message,))
        return self._remote is not None and bus.send(self._remote, message, payload, to=peer)

    def send_all(self, peer: bytes, messages: Sequence[AnyMessage]) -> bool:
        """Send messages without payload, as `send` does; on this machine together."""
        if peer in self._lane.peers:
            return self._lane.send(peer, messages)
        return all(self.send(peer, message) for message in messages)

    def reachable(self, peer: bytes) -> bool:
        """Tell whether a worker still has its connection."""
        if peer in self._lane.peers:
            return True
        return self._remote is not None and bus.reachable(self._remote, peer)

    def close(self) -> None:
        """Close the lane; the bus closes its own sockets."""
        self._lane.close()
        if self._listener is not None:
            self._listener.close()

    def _listen(self, path: Path) -> None:
        listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        listener.setblocking(False)
        try:
            with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise ConfigurationError(f"{path}: cannot bind: another grabber of this camera is running")
            path.unlink(missing_ok=True)  # of a dead run
            listener.bind(str(path))
            listener.listen()
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot bind: {error.strerror or error}") from error
        self._listener = listener
        self._lane.epoll.register(listener.fileno(), select.EPOLLIN)

    def _receive(self) -> None:
        for descriptor, _ in self._lane.epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
            else:
                self._lane.receive(descriptor)

    def _accept(self, listener: sockets.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # it went before it was let in
        self._came += 1
        self._lane.join(connection, b"lane.%d" % self._came)


class Taker:
    """A worker's end of one camera; the grabber may come later, go and come again."""

    def __init__(
        self, sockets_of: bus.Bus, endpoint: str, identity: str, handle: Handle, counters: Counter[str]
    ) -> None:
        """Call `handle(message, payload, peer)` for what the grabber sends; `identity` names this worker to it."""
        self.shares_memory = is_local(endpoint)
        if self.shares_memory:
            self._path = endpoint.removeprefix(_LOCAL)
            self._lane = _Lane(handle, lambda _peer: None, counters)
            self.sources: Sources = {self._lane.epoll.fileno(): self._receive}
        else:
            self._remote = sockets_of.connect(zmq.DEALER, endpoint, identity)
            self.sources = {self._remote: _Far(self._remote, handle, counters)}

    def send(self, message: AnyMessage) -> bool:
        """Send without waiting, first connecting where the grabber was away; False while it is."""
        if not self.shares_memory:
            return bus.send(self._remote, message)
        return (bool(self._lane.peers) or self._connect()) and self._lane.send(b"grabber", (message,))

    def close(self) -> None:
        """Close the lane; the bus closes its own sockets."""
        if self.shares_memory:
            self._lane.close()

    def _connect(self) -> bool:
        connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return False
        self._lane.join(connection, b"grabber")
        return True

    def _receive(self) -> None:
        for descriptor, _ in self._lane.epoll.poll(0):
            self._lane.receive(descriptor)
