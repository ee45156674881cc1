"""What a camera plug-in is: one file in `ingest/cameras` with `Options` and `Camera`.

class Options(BaseModel): ...

class Camera:
def __init__(self, options: Options, name: str, line: TriggerLine) -> None: ...
def open(self) -> int: ...                                   # largest frame in bytes
def exposures(self, first: int) -> Iterator[Exposure]: ...   # blocks until the next trigger
def close(self) -> None: ...                                 # from another thread; ends exposures()
"""

from __future__ import annotations

import ctypes
import itertools
import queue
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from config.errors import ConfigurationError
from config.messages import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from config.holds import Holds
    from config.home import Home
    from config.messages import Expose, PixelFormat, Truth
    from config.schedule import Schedule
    from config.station import SimulationSection

    Pixels = npt.NDArray[np.uint8]

_LOOK_S = 0.05  # for the line's start, and whether its belt is held
_ROUSED_S = 0.001  # before a trigger that is played: a thread that has slept for long comes 0.1 ms late
_PR_SET_TIMERSLACK = 29  # prctl(2)
_SLACK_NS = 1000  # of a thread's waits, 50 us by default


@dataclass(frozen=True)
class Exposure:
    """A trigger and, unless `reason` says why not, the picture taken at it."""

    sequence: int  # of the trigger; the same for all cameras of the station
    time_ns: int  # monotonic, of the trigger
    pixels: Pixels | None  # (H, W, C), C is 1 (mono, Bayer mosaic) or 3 (BGR)
    reason: Reason | None = None
    truth: Truth | None = None
    order: Expose | None = None  # of a PLC that leads; the part, its recipe and its deadline are the order's
    pixel_format: PixelFormat | None = None  # None: mono8 or bgr8, by the number of channels


class Camera(Protocol):
    """A source of exposures. Raises DeviceError when the device is lost, ConfigurationError when it cannot be had."""

    def open(self) -> int:
        """Take the device; return the bytes of its largest frame."""

    def exposures(self, first: int) -> Iterator[Exposure]:
        """Yield an exposure for every trigger from number `first` on; end when closed or when there are no more."""

    def close(self) -> None:
        """Release the device; called from another thread, it ends a waiting `exposures`."""


class Film(Protocol):
    """Memory that a camera can put its pictures into, so that nobody copies them later."""

    def frame(self, shape: tuple[int, int, int]) -> Pixels:
        """Return memory for the next picture `(H, W, C)`; yielded as an exposure's pixels it is where workers look."""

    def discard(self, pixels: Pixels) -> None:
        """Take back memory that becomes no exposure."""


class _LooseFilm:
    """Memory that nobody shares."""

    def frame(self, shape: tuple[int, int, int]) -> Pixels:
        return np.empty(shape, np.uint8)

    def discard(self, pixels: Pixels) -> None:
        pass


class TriggerLine:
    """The trigger input of cameras that play known parts: it tells when each part of the simulated line arrives.

    Where the PLC leads, parts arrive when it says so. Any camera finds the memory for its pictures in `film`.
    """

    def __init__(self, home: Home) -> None:
        self.film: Film = _LooseFilm()
        self._home = home
        self._closed = threading.Event()
        self._orders: queue.SimpleQueue[Expose | None] = queue.SimpleQueue()
        self._schedule: Schedule | None = None
        self._holds: Holds | None = None

    @cached_property
    def led(self) -> bool:
        """Whether the PLC leads."""
        plc = self._home.read_station().plc
        return plc is not None and plc.trigger == "plc"

    def expose(self, order: Expose) -> None:
        """Take the PLC's trigger of a part."""
        self._orders.put(order)

    def orders(self) -> Iterator[Expose]:
        """Yield the PLC's triggers as they come, each once; end when closed."""
        return iter(self._orders.get, None)

    def simulation(self) -> SimulationSection:
        """Return how the line is simulated; raise ConfigurationError where the line is a real one."""
        simulation = self._home.read_station().simulation
        if simulation is None:
            raise ConfigurationError(
                f"{self._home.path / 'station.json'}: no [simulation]: a camera that plays known parts needs one, "
                "with rate_per_s and products"
            )
        return simulation

    def schedule(self) -> Schedule | None:
        """Wait until the line has started and return its schedule as it is now; None once closed."""
        while self._schedule is None and not self._closed.is_set():
            self._schedule = self._home.schedule()
            if self._schedule is None:
                self._closed.wait(_LOOK_S)
        if self._closed.is_set() or self._schedule is None:
            return None
        self._holds = self._holds or self._home.holds()
        if (holds := self._holds.read()) != self._schedule.holds:
            self._schedule = replace(self._schedule, holds=holds)
        return self._schedule

    def wait(self, sequence: int) -> int | None:
        """Wait for part `sequence` and return its trigger time (monotonic ns, maybe long past); None when over.

        Raise ConfigurationError where the PLC leads: it names the parts, see `orders`.
        """
        if self.led:
            raise ConfigurationError(
                f"{self._home.path / 'station.json'}: plc.trigger is 'plc', and this camera counts triggers itself: "
                "it must take them from TriggerLine.play or TriggerLine.orders; or let the cameras trigger"
            )
        while (schedule := self.schedule()) is not None:
            if schedule.parts is not None and sequence >= schedule.parts:
                return None
            due_ns = schedule.time_ns(sequence)
            left_s = (due_ns - time.monotonic_ns()) / 1e9
            if left_s <= 0:
                return due_ns
            rousing_s = left_s - _ROUSED_S if left_s > _ROUSED_S else left_s
            self._closed.wait(min(rousing_s, _LOOK_S))  # meanwhile the belt may be held
        return None

    def play(
        self,
        first: int,
        picture: Callable[[int, Schedule], Pixels | Reason],
        truth: Callable[[int, Schedule], Truth | None],
    ) -> Iterator[Exposure]:
        """Return the exposures of a camera that plays known parts, from part `first` on.

        Parts that went by more than one period before this was called are yielded at once as CAMERA_DOWN, without
        a picture. From there on `picture` is called before the trigger comes, so that its pixels, or the reason why
        there are none, are there at the trigger. Whoever falls behind skips nothing: triggers keep their true times.
        Where the PLC leads, `first` means nothing: it names the parts.
        """
        if self.led:
            return self._obey(picture, truth, time.monotonic_ns())
        return self._play(first, picture, truth, time.monotonic_ns())

    def _obey(
        self,
        picture: Callable[[int, Schedule], Pixels | Reason],
        truth: Callable[[int, Schedule], Truth | None],
        here_ns: int,
    ) -> Iterator[Exposure]:
        schedule = self.schedule()
        if schedule is None:
            return
        awaited, taken = 0, self._filmed(picture(0, schedule))
        for order in self.orders():
            if self._closed.is_set():
                return
            part, shown = order.sequence, truth(order.sequence, schedule)
            if order.trigger_ns < here_ns:
                yield Exposure(part, order.trigger_ns, None, Reason.CAMERA_DOWN, shown, order)
                continue
            if part != awaited:
                if not isinstance(taken, Reason):
                    self.film.discard(taken)
                taken = self._filmed(picture(part, schedule))
            pixels, reason = (None, taken) if isinstance(taken, Reason) else (taken, None)
            yield Exposure(part, order.trigger_ns, pixels, reason, shown, order)
            awaited, taken = part + 1, self._filmed(picture(part + 1, schedule))

    def _play(
        self,
        first: int,
        picture: Callable[[int, Schedule], Pixels | Reason],
        truth: Callable[[int, Schedule], Truth | None],
        here_ns: int,
    ) -> Iterator[Exposure]:
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _SLACK_NS, 0, 0, 0)  # as punctual as a trigger input
        schedule = self.schedule()
        if schedule is None:
            return
        live = max(first, schedule.latest(here_ns - schedule.period_ns) + 1)
        for sequence in range(first, live):
            due_ns = self.wait(sequence)
            if due_ns is None or self._closed.is_set():
                return
            yield Exposure(sequence, due_ns, None, Reason.CAMERA_DOWN, truth(sequence, schedule))
        for sequence in itertools.count(live):
            if self._closed.is_set() or (schedule.parts is not None and sequence >= schedule.parts):
                return
            taken, shown = self._filmed(picture(sequence, schedule)), truth(sequence, schedule)
            pixels, reason = (None, taken) if isinstance(taken, Reason) else (taken, None)
            due_ns = self.wait(sequence)
            if due_ns is None:
                return
            yield Exposure(sequence, due_ns, pixels, reason, shown)

    def _filmed(self, taken: Pixels | Reason) -> Pixels | Reason:
        """Put a picture where a real camera would have put it, before its trigger."""
        if isinstance(taken, Reason):
            return taken
        height, width, channels = taken.shape
        pixels = self.film.frame((height, width, channels))
        np.copyto(pixels, taken)
        return pixels

    def close(self) -> None:
        """End all waiting."""
        self._closed.set()
        self._orders.put(None)
