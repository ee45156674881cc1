"""What a camera plug-in is: one file in `ingest/cameras` with `Options` and `Camera`.

class Options(BaseModel): ...

class Camera:
def __init__(self, options: Options, name: str, line: TriggerLine) -> None: ...
def open(self) -> int: ...                                   # largest frame in bytes
def exposures(self, first: int) -> Iterator[Exposure]: ...   # blocks until the next trigger
def close(self) -> None: ...                                 # from another thread; ends exposures()
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from config.home import Home
    from config.messages import Reason, Truth
    from config.schedule import Schedule

_LOOK_FOR_START_S = 0.05


@dataclass(frozen=True)
class Exposure:
    """A trigger and, unless `reason` says why not, the picture taken at it."""

    sequence: int  # of the trigger; the same for all cameras of the station
    time_ns: int  # monotonic, of the trigger
    pixels: npt.NDArray[np.uint8] | None  # (H, W, C), C is 1 (mono) or 3 (BGR)
    reason: Reason | None = None
    truth: Truth | None = None


class Camera(Protocol):
    """A source of exposures. Raises DeviceError when the device is lost, ConfigurationError when it cannot be had."""

    def open(self) -> int:
        """Take the device; return the bytes of its largest frame."""

    def exposures(self, first: int) -> Iterator[Exposure]:
        """Yield an exposure for every trigger from number `first` on; end when closed or when there are no more."""

    def close(self) -> None:
        """Release the device; called from another thread, it ends a waiting `exposures`."""


class TriggerLine:
    """The trigger input of cameras that play known parts: it tells when each part of the simulated line arrives."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._closed = threading.Event()
        self._schedule: Schedule | None = None

    def schedule(self) -> Schedule | None:
        """Wait until the line has started and return its schedule; None once closed."""
        while self._schedule is None and not self._closed.is_set():
            self._schedule = self._home.schedule()
            if self._schedule is None:
                self._closed.wait(_LOOK_FOR_START_S)
        return None if self._closed.is_set() else self._schedule

    def wait(self, sequence: int) -> int | None:
        """Wait for part `sequence` and return its trigger time (monotonic ns, maybe long past); None when over."""
        schedule = self.schedule()
        if schedule is None or (schedule.parts is not None and sequence >= schedule.parts):
            return None
        due_ns = schedule.time_ns(sequence)
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            if self._closed.wait(left_ns / 1e9):
                return None
        return due_ns

    def close(self) -> None:
        """End all waiting."""
        self._closed.set()
