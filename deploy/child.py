"""One process under the supervisor: how to start it, how it says that it is ready, how it is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from config.errors import EXIT_CONFIGURATION, ServiceError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from deploy.servers import Server

SERVERS_STOP = 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_FIRST_BACK_OFF_NS = 50_000_000
_LONGEST_BACK_OFF_NS = 5_000_000_000
_STEADY_NS = 10_000_000_000  # alive for so long, the back-off begins anew
_LOG_BYTES = 1 << 20
_WATCHDOG_NS = 15_000_000_000
_SERVER_NICENESS = 5  # what they hold waits in the journal if need be; a third of a processor's share, so it drains


@dataclass(frozen=True)
class Program:
    """What to run; command, environment and account are asked for at every start, after `prepare`.

    Daemons of ours say READY=1 as sd_notify(3) does; servers are probed with `probe`.
    """

    name: str
    command: Callable[[], Sequence[str]]
    environment: Callable[[], Mapping[str, str]]
    account: Callable[[], tuple[int, int] | None] = lambda: None
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    prepare: Callable[[], None] | None = None
    probe: Callable[[], bool] | None = None
    stops: int = 1  # in which round: 0 cameras, 1 what judges, 2 storage, SERVERS_STOP servers
    silent: bool = False  # its log goes to the file alone, whatever its level
    niceness: int = 0  # nice(2): above 0 where the line goes first

    @classmethod
    def of_server(cls, server: Server) -> Self:
        """Return what runs a server: the last to stop, for all others need it."""
        return cls(
            name=server.name,
            command=server.command,
            environment=server.environment,
            account=server.user,
            stop_signal=server.stop_signal,
            kill_signal=server.kill_signal,
            prepare=server.prepare,
            probe=server.ready,
            stops=SERVERS_STOP,
            silent=True,
            niceness=_SERVER_NICENESS,
        )


@dataclass
class Child:
    """A program that runs, or waits for its next start."""

    program: Program
    notify_path: Path
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    ready: bool = False
    restarts: int = 0
    start_at_ns: int = 0
    _started_ns: int | None = None
    _back_off_ns: int = _FIRST_BACK_OFF_NS
    _heard_ns: int | None = None
    _log: bytes = b""
    _notify: socket.socket | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process.

        Raise StoreError if it cannot be prepared now (a later start is planned), ServiceError if it cannot be run.
        """
        if self.program.prepare:
            try:
                self.program.prepare()
            except StoreError:
                self._plan(time.monotonic_ns())
                raise
        self.notify_path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._notify.bind(str(self.notify_path))
        command = list(self.program.command())
        user, group = self.program.account() or (None, None)
        try:
            self.process = subprocess.Popen(
                command,
                env={**self.program.environment(), "NOTIFY_SOCKET": str(self.notify_path)},
                cwd="/",  # a server's account may not be able to enter ours
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
                process_group=0,  # Ctrl-C reaches the supervisor alone, which stops everything in order
                preexec_fn=self._begin,  # noqa: PLW1509 - no threads here
            )
        except OSError as error:
            raise ServiceError(f"{self.program.name}: cannot start {command[0]}: {error}") from error
        if self.process.stdout is None:
            raise ServiceError(f"{self.program.name}: started without its log pipe")
        os.set_blocking(self.process.stdout.fileno(), False)
        self.pidfd = os.pidfd_open(self.process.pid)
        self.ready, self.start_at_ns, self._heard_ns = False, 0, None
        self.restarts += self._started_ns is not None
        self._started_ns = time.monotonic_ns()

    def _begin(self) -> None:
        """Run in the new process before the program does: it ends with the supervisor, and gives way as it should."""
        die_with_parent(self.program.stop_signal)
        os.nice(self.program.niceness)

    @property
    def descriptors(self) -> list[int]:
        """Log pipe, notify socket and pid descriptor, while the process runs."""
        if self.process is None or self.process.stdout is None or self._notify is None:
            return []
        return [self.process.stdout.fileno(), self._notify.fileno(), self.pidfd]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def lines(self) -> list[str]:
        """Take the whole lines that wait in the log pipe."""
        if self.process is None or self.process.stdout is None:
            return []
        with suppress(BlockingIOError):
            self._log += self.process.stdout.read(_LOG_BYTES) or b""
        *whole, self._log = self._log.split(b"\n")
        if len(self._log) > _LOG_BYTES:
            whole, self._log = [*whole, self._log], b""
        return [line.decode(errors="replace") for line in whole if line]

    def listen(self) -> list[str]:
        """Take the sd_notify states that wait."""
        states: list[str] = []
        while self._notify is not None:
            try:
                states += self._notify.recv(4096).decode(errors="replace").splitlines()
            except BlockingIOError:
                break
        if states:
            self._heard_ns = time.monotonic_ns()
        return states

    def ended(self) -> int:
        """Reap the process, plan its next start with back-off and return its exit code (negative: a signal)."""
        if self.process is None:
            raise ServiceError(f"{self.program.name}: has not been started")
        code = self.process.wait()
        now_ns = time.monotonic_ns()
        if self._started_ns is not None and now_ns - self._started_ns > _STEADY_NS:
            self._back_off_ns = _FIRST_BACK_OFF_NS
        self._plan(now_ns)
        self.ready = False
        os.close(self.pidfd)
        self.pidfd = -1
        if self.process.stdout:
            self.process.stdout.close()
        if self._notify:
            self._notify.close()
        self._notify = None
        self.process = None
        return code

    def _plan(self, now_ns: int) -> None:
        self.start_at_ns = now_ns + self._back_off_ns
        self._back_off_ns = min(2 * self._back_off_ns, _LONGEST_BACK_OFF_NS)

    def hangs(self, now_ns: int) -> bool:
        """Tell whether a daemon that used to say that it is alive has been silent for too long."""
        return self._heard_ns is not None and self.ready and now_ns - self._heard_ns > _WATCHDOG_NS

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to end this process with the one that started it: for `preexec_fn` of a Popen without threads."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(how))


def meaning(code: int) -> str:
    """Say in words how a process ended."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if code == EXIT_CONFIGURATION:
        return "configuration error"
    return f"exit {code}"
