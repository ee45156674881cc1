"""The one service loop: `open() → READY → loop(poll, handle, tick) → close()`.

Signals wake the poller through a file descriptor, durations are monotonic, nothing sleeps. A configuration error exits
78, any other error exits non-zero with its traceback, SIGTERM and SIGINT exit 0 after `close()`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Literal, NoReturn

import zmq

from config import bus, log
from config.errors import EXIT_FAILURE, AndonError
from config.messages import Health

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.home import Home

_HEALTH_NS = 1_000_000_000
_LONGEST_WAIT_MS = 100

State = Literal["STARTING", "READY", "DEGRADED", "STOPPING"]


class Service:
    """A daemon of the station; subclasses override what they need.

    `open()` acquires sockets and devices and registers handlers with `watch()`; `tick()` runs after every poll, at
    least ten times a second; `next_ns()` says when it must run at the latest; `close()` makes outputs safe first.
    """

    def __init__(self, name: str, home: Home) -> None:
        """Name the process as its log, health and supervisor call it."""
        self.name = name
        self.home = home
        self.bus = bus.Bus(home.keys())
        self.counters: Counter[str] = Counter()
        self.state: State = "STARTING"
        self.detail = ""
        self._poller = zmq.Poller()
        self._handlers: dict[object, Callable[[], None]] = {}
        self._stopping = False

    def open(self) -> None:
        """Acquire what the service needs; raise AndonError if that cannot be."""

    def tick(self, now_ns: int) -> None:
        """Do what time asks for."""

    def next_ns(self) -> int | None:
        """Return the monotonic time by which `tick` must run; None if any time will do."""
        return None

    def close(self) -> None:
        """Make outputs safe, then release everything."""

    def watch(self, source: bus.Socket | int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `source` (a socket or a file descriptor) can be read."""
        self._poller.register(source, zmq.POLLIN)
        self._handlers[source] = handler

    def stop(self) -> None:
        """Leave the loop after this round."""
        self._stopping = True

    def run(self) -> None:
        """Run until a signal comes or `stop()` is called."""
        reader, writer = sockets.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        self.watch(reader.fileno(), lambda: _drain(reader))
        try:
            self.open()
            self._report()
            if self.state == "STARTING":
                self.state = "READY"
            notify("READY=1")
            log.logger().info("ready")
            self._loop()
        finally:
            self.state = "STOPPING"
            self.close()
            self.bus.close()

    def _report(self) -> None:
        self._health = self.bus.connect(zmq.PUSH, self.home.endpoint("health"))
        self._health_due_ns = 0

    def _loop(self) -> None:
        while not self._stopping:
            for source, _ in self._poller.poll(self._wait_ms()):
                self._handlers[source]()
            now_ns = time.monotonic_ns()
            self.tick(now_ns)
            if now_ns >= self._health_due_ns:
                self._health_due_ns = now_ns + _HEALTH_NS
                notify("WATCHDOG=1")
                health = Health(
                    service=self.name,
                    state=self.state,
                    detail=self.detail,
                    pid=os.getpid(),
                    time_ns=time.time_ns(),
                    counters=dict(self.counters),
                )
                bus.send(self._health, health)

    def _wait_ms(self) -> int:
        due_ns = self.next_ns()
        if due_ns is None:
            return _LONGEST_WAIT_MS
        wait_ns = due_ns - time.monotonic_ns()
        return max(0, min(_LONGEST_WAIT_MS, -(-wait_ns // 1_000_000)))


def serve(make: Callable[[], Service], name: str) -> int:
    """Run a daemon to its end and return the process's exit code; this is a process's outermost edge."""
    log.configure(name)
    try:
        make().run()
    except AndonError as error:
        log.logger().error(str(error), error=type(error).__name__)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the outermost edge: whatever it is, it is logged and the process exits non-zero
        log.logger().error("crashed", traceback=traceback.format_exc())
        return EXIT_FAILURE
    return 0


def notify(state: str) -> None:
    """Tell the process that started us, as sd_notify(3) does: `READY=1`, `WATCHDOG=1`, `STATUS=…`."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.setblocking(False)
        channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def _drain(reader: sockets.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while reader.recv(4096):
            pass


def leave(code: int) -> NoReturn:
    """End the process with `code` without waiting for threads that a device SDK left behind."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
