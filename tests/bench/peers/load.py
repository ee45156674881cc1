"""Load from one client process: so many in flight (closed loop), or arrivals that wait for nobody (open loop)."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import zmq
from venvs import NotMeasuredError

PATIENCE_S = 20.0
SETTLE_S = 0.5


class Link(Protocol):
    """A way to a server: `submit` never waits; `done` returns what was answered within the timeout, (token, score)."""

    room: int

    def submit(self, token: int, picture: int) -> None: ...

    def done(self, timeout_ms: int) -> list[tuple[int, float]]: ...


class Measured(NamedTuple):
    """What came back: answers per second of a closed loop, or latencies in ms of an open one."""

    per_s: float
    latencies_ms: list[float]
    scores: dict[int, float]  # by picture


def closed_loop(link: Link, pictures: int, in_flight: int, seconds: float) -> Measured:
    """Keep `in_flight` frames on their way; count what comes back once the first half second is over."""
    began = time.perf_counter()
    sent = answered = waiting = 0
    latencies: list[float] = []
    started: dict[int, float] = {}
    scores: dict[int, float] = {}
    heard = began
    while (now := time.perf_counter()) - began < SETTLE_S + seconds or waiting:
        while waiting < in_flight and link.room and now - began < SETTLE_S + seconds:
            started[sent] = time.perf_counter()
            link.submit(sent, sent % pictures)
            sent, waiting = sent + 1, waiting + 1
        for token, score in link.done(1000):
            heard = time.perf_counter()
            waiting -= 1
            scores[token % pictures] = score
            latencies.append((heard - started.pop(token)) * 1e3)
            answered += SETTLE_S <= heard - began < SETTLE_S + seconds
        _check(heard)
    return Measured(answered / seconds, latencies, scores)


def open_loop(link: Link, pictures: int, arrivals_s: Sequence[float]) -> Measured:
    """Send at the given moments, whatever has been answered; a latency counts from the moment of arrival."""
    began = heard = time.perf_counter() + 0.05
    started: dict[int, float] = {}
    latencies: list[float] = []
    scores: dict[int, float] = {}
    sent = 0
    late: deque[int] = deque()
    while len(latencies) < len(arrivals_s):
        now = time.perf_counter()
        while sent < len(arrivals_s) and now >= began + arrivals_s[sent]:
            started[sent] = now  # the poll ends up to a millisecond late: that is the client's, not the server's
            late.append(sent)
            sent += 1
        while late and link.room:
            token = late.popleft()
            link.submit(token, token % pictures)
        ahead_ms = (began + arrivals_s[sent] - time.perf_counter()) * 1e3 if sent < len(arrivals_s) else 1000.0
        for token, score in link.done(max(0, int(ahead_ms))):
            heard = time.perf_counter()
            scores[token % pictures] = score
            latencies.append((heard - started.pop(token)) * 1e3)
        if not started:
            heard = time.perf_counter()
        _check(heard)
    return Measured(len(latencies) / (time.perf_counter() - began), latencies, scores)


def _check(heard: float) -> None:
    if time.perf_counter() - heard > PATIENCE_S:
        raise NotMeasuredError(f"no answer within {PATIENCE_S:.0f} s")


class Http:
    """Kept connections of HTTP/1.1, one request at a time on each; requests are made beforehand."""

    def __init__(self, port: int, path: str, pictures: Sequence[bytes], connections: int) -> None:
        lines = ("POST {} HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream", "Content-Length: {}")
        head = "\r\n".join((*lines, "", ""))
        self._requests = [head.format(path, len(picture)).encode() + picture for picture in pictures]
        self._port = port
        self._poller = zmq.Poller()
        self._sockets: dict[int, socket.socket] = {}
        self._free: list[int] = []
        self._tokens: dict[int, int] = {}
        self._buffers: dict[int, bytes] = {}
        for _ in range(connections):
            self._connect()

    @property
    def room(self) -> int:
        return len(self._free)

    def submit(self, token: int, picture: int) -> None:
        """Send a request."""
        number = self._free.pop()  # the one that was used last: servers hang up on those that wait for long
        self._tokens[number] = token
        self._buffers[number] = b""
        self._sockets[number].sendall(self._requests[picture])

    def done(self, timeout_ms: int) -> list[tuple[int, float]]:
        """Return the answers that have come whole."""
        answers = []
        for number, _ in self._poller.poll(timeout_ms):
            data = self._sockets[number].recv(1 << 16)
            if not data:
                self._renew(number)
                continue
            self._buffers[number] += data
            body = _body(self._buffers[number])
            if body is not None:
                answers.append((self._tokens.pop(number), float(np.frombuffer(body[:4], np.float32)[0])))
                self._free.append(number)
        return answers

    def close(self) -> None:
        """Hang up."""
        for one in self._sockets.values():
            one.close()

    def _connect(self) -> None:
        one = socket.create_connection(("127.0.0.1", self._port), 5)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._sockets[one.fileno()] = one
        self._free.insert(0, one.fileno())
        self._poller.register(one.fileno(), zmq.POLLIN)

    def _renew(self, number: int) -> None:
        if number in self._tokens:
            raise NotMeasuredError("the server hung up instead of answering")
        self._free.remove(number)
        self._poller.unregister(number)
        self._sockets.pop(number).close()
        self._connect()


class Stream:
    """One connection on which frames go and answers of one size come in order."""

    def __init__(self, port: int, pictures: Sequence[bytes], answer_bytes: int, in_flight: int) -> None:
        self._pictures, self._answer_bytes = pictures, answer_bytes
        self.room = in_flight
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._poller = zmq.Poller()
        self._poller.register(self._socket.fileno(), zmq.POLLIN)
        self._tokens: deque[int] = deque()
        self._buffer = b""

    def submit(self, token: int, picture: int) -> None:
        """Send a frame."""
        self.room -= 1
        self._tokens.append(token)
        self._socket.sendall(self._pictures[picture])

    def done(self, timeout_ms: int) -> list[tuple[int, float]]:
        """Return the answers that have come whole."""
        answers = []
        if self._poller.poll(timeout_ms):
            data = self._socket.recv(1 << 16)
            if not data:
                raise NotMeasuredError("the server hung up instead of answering")
            self._buffer += data
        while len(self._buffer) >= self._answer_bytes:
            answers.append((self._tokens.popleft(), float(np.frombuffer(self._buffer[:4], np.float32)[0])))
            self._buffer = self._buffer[self._answer_bytes :]
            self.room += 1
        return answers

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _body(answer: bytes) -> bytes | None:
    """Return the body of an answer of status 200 once it is whole."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.split(b"\r\n")
    if b" 200 " not in first + b" ":
        raise NotMeasuredError(f"the server answered {first.decode(errors='replace')}: {body[:200]!r}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return body if len(body) >= int(value) else None
    raise NotMeasuredError(f"an answer without a length: {head[:200]!r}")
