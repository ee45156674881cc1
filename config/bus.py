"""ZeroMQ sockets as this station uses them: bounded in size, quick to notice a dead peer, never waiting at exit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from config.errors import ConfigurationError, MessageError
from config.log import Condition
from config.messages import AnyMessage, Buffer, decode, encode

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from zmq.auth.thread import ThreadAuthenticator

    from config.curve import Keys

_HEARTBEAT_MS = 100
_PEER_LOST_MS = 1000  # a killed peer is noticed at once, by its closed connection; this is for one that hangs
_MESSAGE_LIMIT_BYTES = 512 * 1024 * 1024
_HIGH_WATER_MARK = 100_000
_BURST = 64

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


class Bus:
    """Open the sockets of one process and close them together."""

    def __init__(self, keys: Keys | None = None) -> None:
        """Encrypt every connection with `keys` where there are any: then nobody without them can connect."""
        self._context: Context = zmq.Context()
        self._keys = keys
        self._guard: ThreadAuthenticator | None = None

    def bind(self, kind: int, *endpoints: str) -> Socket:
        """Bind a socket, to each of the addresses; raise ConfigurationError if another process holds one."""
        socket = self._socket(kind)
        if self._keys:
            self._guard = self._guard or self._keys.guard(self._context)
            self._keys.listen(socket)
        for endpoint in endpoints:
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                raise ConfigurationError(f"{endpoint}: cannot bind: {error}") from error
        return socket

    def connect(self, kind: int, endpoint: str, identity: str = "") -> Socket:
        """Connect a socket; the peer may come later, go and come again."""
        socket = self._socket(kind)
        if self._keys:
            self._keys.call(socket)
        if identity:
            socket.setsockopt(zmq.IDENTITY, identity.encode())
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise ConfigurationError(f"{endpoint}: cannot connect: {error}") from error
        return socket

    def close(self) -> None:
        """Close all sockets; what was not sent by now is sent no more."""
        if self._guard:
            self._guard.stop()
        self._context.destroy(linger=100)

    def _socket(self, kind: int) -> Socket:
        socket = self._context.socket(kind)
        options = {
            zmq.LINGER: 100,
            zmq.SNDHWM: _HIGH_WATER_MARK,
            zmq.RCVHWM: _HIGH_WATER_MARK,
            zmq.MAXMSGSIZE: _MESSAGE_LIMIT_BYTES,
            zmq.RECONNECT_IVL: 20,
            zmq.RECONNECT_IVL_MAX: 200,
            zmq.HEARTBEAT_IVL: _HEARTBEAT_MS,
            zmq.HEARTBEAT_TIMEOUT: _PEER_LOST_MS,
        }
        for option, value in options.items():
            socket.setsockopt(option, value)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        return socket


def send(socket: Socket, message: AnyMessage, payload: Sequence[Buffer] = (), to: bytes | None = None) -> bool:
    """Send without waiting; False if the peer is gone or its queue is full."""
    return send_parts(socket, encode(message, payload), to)


def send_parts(socket: Socket, parts: Sequence[Buffer], to: bytes | None = None) -> bool:
    """Send a message that is encoded already, as `send` does."""
    try:
        socket.send_multipart([*parts] if to is None else [to, *parts], zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True


def reachable(socket: Socket, peer: bytes) -> bool:
    """Tell whether a ROUTER still has a connection to `peer`: an empty message is sent, which receivers pass over."""
    try:
        socket.send_multipart([peer, b""], zmq.NOBLOCK)
    except zmq.Again:
        return True
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True


class Receiver:
    """Decode what comes in on a socket and hand it on; what does not decode is counted and logged, never fatal."""

    def __init__(
        self, socket: Socket, handle: Callable[[AnyMessage, list[bytes], bytes], None], counters: Counter[str]
    ) -> None:
        """Hand each message to `handle(message, payload, peer)`; `peer` is the sender's identity on a ROUTER."""
        self._socket = socket
        self._handle = handle
        self._malformed = Condition("malformed_message", counters)
        self._routed = socket.type == zmq.ROUTER

    def __call__(self) -> None:
        """Handle what waits, a burst at most, so that no socket starves another."""
        for _ in range(_BURST):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            peer = parts.pop(0) if self._routed else b""
            if parts == [b""]:
                continue  # a probe of reachable()
            try:
                message, payload = decode(parts)
            except MessageError as error:
                self._malformed.occur(error=str(error), peer=peer.decode(errors="replace"))
                continue
            self._malformed.end()
            self._handle(message, payload, peer)
