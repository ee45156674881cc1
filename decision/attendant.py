"""A thread that attends to one device: it talks to it, and comes back by itself where the connection is lost."""

from __future__ import annotations

import sys
import threading
import time
from typing import Protocol

from config.errors import DeviceError
from decision import realtime

_BACKOFF_NS = 50_000_000
_LONGEST_BACKOFF_NS = 1_000_000_000
_CLOSE_S = 0.28
_SWITCH_S = 0.0001


class Talk(Protocol):
    """What the thread does; every method is called from it alone."""

    def converse(self) -> None:
        """Connect and talk until the attendant is closing; DeviceError says that the device is gone."""

    def lost(self, reason: str) -> bool:
        """Take note that the device is gone, or still is; return whether it had been reached."""

    def hang_up(self) -> None:
        """Disconnect; never raises, also where nothing is open."""

    def wait(self, until_ns: int) -> None:
        """Go on without the device for a while."""


class Attendant:
    """The thread; it tries again after 50 ms, then slower, 1 s at most. All methods are for other threads."""

    def __init__(self, name: str, talk: Talk) -> None:
        """Name the thread; `start` begins."""
        self._talk = talk
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self.closing = False

    def start(self) -> None:
        """Begin to connect; in this process, the interpreter changes threads every 0.1 ms from now on."""
        sys.setswitchinterval(_SWITCH_S)  # else an order waits for the loop's 5 ms slices, once for each system call
        self._thread.start()

    def raise_crash(self) -> None:
        """Raise what ended the thread, such as a driver that raises something else than DeviceError."""
        if self._crash is not None:
            raise self._crash

    def join(self) -> bool:
        """Wait for the end, 0.3 s at most; False where it still waits for its device: it ends with the answer."""
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)
        return not self._thread.is_alive()

    def _live(self) -> None:
        realtime.step_above()
        try:
            self._attend()
        except BaseException as error:  # noqa: BLE001 - a thread's outermost edge: the loop raises it again
            self._crash = error

    def _attend(self) -> None:
        backoff_ns = _BACKOFF_NS
        while not self.closing:
            try:
                self._talk.converse()
            except DeviceError as error:
                if self._talk.lost(str(error)):
                    backoff_ns = _BACKOFF_NS
            finally:
                self._talk.hang_up()
            self._talk.wait(time.monotonic_ns() + backoff_ns)
            backoff_ns = min(2 * backoff_ns, _LONGEST_BACKOFF_NS)
