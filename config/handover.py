"""Between the stages of the line: frames from a grabber to its workers, their answers back, predictions to decision.

On one machine they cross a lane (`config/lane.py`), to other machines ZeroMQ carries them. Only an endpoint's address
decides: `ipc://` is a lane, and pixels lie in shared memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from config import bus
from config.errors import MessageError
from config.lane import Lane
from config.log import Condition
from config.messages import decode

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from config.lane import Handle
    from config.messages import AnyMessage, Buffer

    Sources = dict[bus.Socket | int, Callable[[], None]]  # what Service.watch takes

_LOCAL = "ipc://"
_THERE = b"there"  # the one peer of an end that goes to another
_BURST = 64


def is_local(endpoint: str) -> bool:
    """Tell whether frames of this endpoint stay in the memory of this machine."""
    return endpoint.startswith(_LOCAL)


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
        self._lane = Lane(handle, lost, counters)
        self._remote: bus.Socket | None = None
        self.sources: Sources = {self._lane.fileno(): self._lane.receive}
        for endpoint in filter(is_local, endpoints):
            self._lane.listen(Path(endpoint.removeprefix(_LOCAL)))
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


class Taker:
    """A worker's end of one camera; the grabber may come later, go and come again."""

    def __init__(
        self, sockets_of: bus.Bus, endpoint: str, identity: str, handle: Handle, counters: Counter[str]
    ) -> None:
        """Call `handle(message, payload, peer)` for what the grabber sends; `identity` names this worker to it."""
        self.shares_memory = is_local(endpoint)
        if self.shares_memory:
            self._path = Path(endpoint.removeprefix(_LOCAL))
            self._lane = Lane(handle, _let_go, counters)
            self.sources: Sources = {self._lane.fileno(): self._lane.receive}
        else:
            self._remote = sockets_of.connect(zmq.DEALER, endpoint, identity)
            self.sources = {self._remote: _Far(self._remote, handle, counters)}

    def send(self, message: AnyMessage) -> bool:
        """Send without waiting, first connecting where the grabber was away; False while it is."""
        if not self.shares_memory:
            return bus.send(self._remote, message)
        return _goes(self._lane, self._path) and self._lane.send(_THERE, (message,))

    def close(self) -> None:
        """Close the lane; the bus closes its own sockets."""
        if self.shares_memory:
            self._lane.close()


class Inlet:
    """Decision's end of all workers: those of this machine tell by a lane, others by ZeroMQ."""

    def __init__(self, sockets_of: bus.Bus, endpoints: Sequence[str], handle: Handle, counters: Counter[str]) -> None:
        """Listen at each of `endpoints`; raise ConfigurationError where another process holds one."""
        pull = sockets_of.bind(zmq.PULL, *endpoints)
        self._lane = Lane(handle, _let_go, counters)
        for endpoint in filter(is_local, endpoints):
            self._lane.listen(_beside(endpoint))
        self.sources: Sources = {self._lane.fileno(): self._lane.receive, pull: _Far(pull, handle, counters)}

    def close(self) -> None:
        """Close the lane; the bus closes its own sockets."""
        self._lane.close()


class Outlet:
    """A worker's end towards decision, which may come later, go and come again.

    ZeroMQ also carries what a lane does not take: messages too long for it, and what is told while decision is away or
    far behind. It keeps them until decision is there.
    """

    def __init__(self, sockets_of: bus.Bus, endpoint: str, counters: Counter[str]) -> None:
        self._remote = sockets_of.connect(zmq.PUSH, endpoint)
        self._lane = Lane(lambda _message, _payload, _peer: None, _let_go, counters)
        self._path = _beside(endpoint) if is_local(endpoint) else None
        self.sources: Sources = {self._lane.fileno(): self._lane.receive}

    def send(self, message: AnyMessage, payload: Buffer = b"") -> bool:
        """Send without waiting; False if nothing takes any more."""
        if self._path and _goes(self._lane, self._path) and self._lane.send(_THERE, (message,), payload):
            return True
        return bus.send(self._remote, message, (payload,) if payload else ())

    def close(self) -> None:
        """Close the lane; the bus closes its own sockets."""
        self._lane.close()


def _beside(endpoint: str) -> Path:
    """Return where the lane of an endpoint lies that ZeroMQ holds as well."""
    return Path(endpoint.removeprefix(_LOCAL)).with_suffix(".lane")


def _goes(lane: Lane, path: Path) -> bool:
    return bool(lane.peers) or lane.connect(path, _THERE)


def _let_go(_peer: bytes) -> None:
    pass
