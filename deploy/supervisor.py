"""The supervisor behind `andon up`: children started in groups, restarted with back-off, stopped in rounds.

One thread, one selector: pid descriptors tell of deaths, notify sockets of readiness, pipes bring the children's log
lines, a wake-up descriptor the signals. If the supervisor itself is killed, the kernel signals every child.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from config.errors import EXIT_CONFIGURATION, ConfigurationError, ServiceError, StoreError
from deploy.child import SERVERS_STOP, Child, Program, meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from deploy.logbook import Logbook

_TICK_S = 0.02
_STOP_S = 1.2  # for each group; what has not ended by then is killed


class Supervisor:
    """Keep the children of one station running until told to stop."""

    def __init__(self, runtime: Path, logbook: Logbook) -> None:
        """Put notify sockets into `runtime`, log lines into `logbook`."""
        self._runtime = runtime
        self._logbook = logbook
        self._selector = selectors.DefaultSelector()
        self._children: list[Child] = []
        self._stopping = False
        self.stop_requested = False
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        self._wake, self._writer = reader, writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        self._selector.register(reader, selectors.EVENT_READ, self._woken)

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process has been restarted."""
        return {child.program.name: child.restarts for child in self._children if child.restarts}

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        return {child.program.name: child.process.pid for child in self._children if child.process}

    def start(self, programs: Iterable[Program], ready_within_s: float) -> None:
        """Start programs and wait until all are ready.

        Raise ConfigurationError if one says that its configuration is wrong, ServiceError if one is not ready in time.
        """
        group = [Child(program, self._runtime / f"notify-{program.name}") for program in programs]
        self._children += group
        for child in group:
            self._launch(child)
        deadline_ns = time.monotonic_ns() + round(ready_within_s * 1e9)
        while not all(child.ready for child in group) and not self.stop_requested:
            self.turn()
            if time.monotonic_ns() > deadline_ns:
                late = ", ".join(child.program.name for child in group if not child.ready)
                raise ServiceError(f"not ready within {ready_within_s:g} s: {late}; see {self._logbook.path}")

    def turn(self) -> None:
        """Wait a moment for whatever happens and deal with it."""
        for key, _ in self._selector.select(_TICK_S):
            key.data()
        now_ns = time.monotonic_ns()
        for child in self._children:
            if child.alive and not child.ready and child.program.probe and child.program.probe():
                self._is_ready(child)
            if child.hangs(now_ns):
                self._logbook.write(child.program.name, "error", "hangs: killed")
                child.signal(signal.SIGKILL)
            if not self._stopping and child.process is None and child.start_at_ns <= now_ns:
                self._launch(child)

    def run(self, until: Callable[[], bool]) -> None:
        """Turn until `until()` is true or somebody asks to stop."""
        while not self.stop_requested and not until():
            self.turn()

    def stop(self, *, servers: bool = True) -> None:
        """Stop the children round by round: what feeds others goes before what it feeds.

        Servers go on where they are not meant, so that it can be asked what the others have left there.
        """
        self._stopping = True
        rounds = {child.program.stops for child in self._children}
        for stops in sorted(rounds if servers else rounds - {SERVERS_STOP}):
            group = [child for child in self._children if child.program.stops == stops]
            for child in group:
                child.signal(child.program.stop_signal)
            self._await_end(group, _STOP_S)
            for child in group:
                if child.alive:
                    self._logbook.write(child.program.name, "warning", "did not stop in time: killed")
                    child.signal(child.program.kill_signal)
            self._await_end(group, _STOP_S)
            for child in group:
                child.signal(signal.SIGKILL)
            self._await_end(group, _STOP_S)

    def _await_end(self, group: list[Child], within_s: float) -> None:
        deadline_ns = time.monotonic_ns() + round(within_s * 1e9)
        while any(child.process for child in group) and time.monotonic_ns() < deadline_ns:
            for key, _ in self._selector.select(_TICK_S):
                key.data()

    def _launch(self, child: Child) -> None:
        try:
            child.start()
        except StoreError as error:
            self._logbook.say(f"{child.program.name}: {error}: trying again", "warning")
            return
        handlers = (self._logged, self._notified, self._ended)
        for descriptor, handler in zip(child.descriptors, handlers, strict=True):
            self._selector.register(descriptor, selectors.EVENT_READ, partial(handler, child))

    def _is_ready(self, child: Child) -> None:
        child.ready = True
        again = f" again (restart {child.restarts})" if child.restarts else ""
        self._logbook.say(f"{child.program.name} ready{again}")

    def _notified(self, child: Child) -> None:
        if "READY=1" in child.listen() and not child.ready:
            self._is_ready(child)

    def _logged(self, child: Child) -> None:
        for line in child.lines():
            self._logbook.take(child.program.name, line, silent=child.program.silent)

    def _ended(self, child: Child) -> None:
        if child.process is None:
            return
        self._logged(child)
        for descriptor in child.descriptors:
            self._selector.unregister(descriptor)
        name = child.program.name
        code = child.ended()
        if self._stopping:
            return
        if code == EXIT_CONFIGURATION:
            raise ConfigurationError(self._logbook.last_error(name) or f"{name}: its configuration is wrong")
        self._logbook.say(f"{name} ended ({meaning(code)}): starting it again", "warning")

    def _request_stop(self, *_: object) -> None:
        self.stop_requested = True

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
