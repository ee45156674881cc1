"""The camera's thread and its film: exposures are taken into free slots of the ring.

A camera that fills the memory it is given (`Shutter.frame`) has its pixels where workers read them: nobody copies them.
Those of others are copied, once. A frame too large for a slot gets a ring of its own.
"""

from __future__ import annotations

import heapq
import math
import sys
import threading
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from config.errors import StoreError
from config.log import logger
from config.mailbox import Mailbox
from config.messages import Reason, Slot
from config.ring import RingWriter

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from ingest.camera import Camera, Exposure

    Pixels = npt.NDArray[np.uint8]

_DIMENSIONS = 3
_CHANNELS = (1, 3)
_TURN_S = 0.005  # the interpreter is the loop's until it has announced a trigger, so long at most
_SWITCH_S = 0.0001  # the thread must not keep the loop from announcing a trigger for Python's usual 5 ms


@dataclass(frozen=True)
class Taken:
    """An exposure; its pixels lie in `slot`, unless `reason` says why there are none (`detail`: what came instead)."""

    exposure: Exposure
    slot: Slot | None
    reason: Reason | None
    detail: str = ""


class Shutter:
    """Run one camera in a thread of its own and keep its pixels until they are freed.

    `mailbox` gives what was taken; then None when there are no more triggers, or the error that ended the camera.
    """

    def __init__(self, camera: Camera, name: str, folder: Path, slots: int) -> None:
        """Take the camera and make its ring in `folder`; rings that a former process left there are removed."""
        self.mailbox: Mailbox[Taken | BaseException | None] = Mailbox()
        self.started = False
        self._camera = camera
        self._name, self._folder, self._slots = name, folder, slots
        slot_bytes = camera.open()
        for leftover in folder.glob(f"{name}.*.ring"):
            leftover.unlink(missing_ok=True)
        self._ring = RingWriter(self._path(), slots, slot_bytes)
        self._large: dict[str, RingWriter] = {}  # by file name: of frames that fit no slot
        self._free = list(range(slots))  # a heap: low slots stay in the processor's cache, and bursts lie side by side
        self._filling: dict[int, tuple[Pixels, int]] = {}  # by identity of the memory: with the camera, of which slot
        self._sending: Counter[int] = Counter()  # by slot
        self._freed: set[int] = set()  # as soon as it has been sent
        self._lock = threading.RLock()
        self._announced = threading.Event()

    def start(self, first: int) -> None:
        """Begin to take exposures, from trigger `first` on."""
        self.started = True
        sys.setswitchinterval(_SWITCH_S)
        threading.Thread(target=self._run, args=(first,), name="camera", daemon=True).start()

    def go_on(self) -> None:
        """Let the camera go on: what was in the mailbox has been announced."""
        self._announced.set()

    def frame(self, shape: tuple[int, int, int]) -> Pixels:
        """Return memory for the next picture `(H, W, C)`: a slot of the ring, or other memory where none is free."""
        index = self._occupy() if math.prod(shape) <= self._ring.slot_bytes else None
        if index is None:
            return np.empty(shape, np.uint8)
        pixels = self._ring.begin(index, shape)
        self._filling[id(pixels)] = pixels, index
        return pixels

    def discard(self, pixels: Pixels) -> None:
        """Take back memory that `frame` gave and that becomes no exposure."""
        _, index = self._filling.pop(id(pixels), (None, None))
        if index is not None:
            self._vacate(index)

    def view(self, slot: Slot, shape: tuple[int, int, int]) -> Pixels:
        """Return the pixels in a slot without copying; they are good until the slot is freed."""
        return self._large.get(slot.ring, self._ring).view(slot, shape)

    def lend(self, slot: Slot, shape: tuple[int, int, int]) -> memoryview:
        """Return the bytes in a slot for a socket to send: freed or not, nothing is written there before it is done."""
        pixels = self.view(slot, (1, 1, math.prod(shape)))
        if slot.ring not in self._large:
            with self._lock:
                self._sending[slot.index] += 1
            weakref.finalize(pixels, self._sent, slot.index).atexit = False
        return pixels.data.cast("B")

    @property
    def free_slots(self) -> int:
        """How many slots could be used now."""
        with self._lock:
            return len(self._free)

    def free(self, slot: Slot | None) -> None:
        """Let a slot be used again."""
        if slot is None:
            return
        large = self._large.pop(slot.ring, None)
        if large is not None:
            large.close()
            return
        with self._lock:
            if self._sending[slot.index]:
                self._freed.add(slot.index)
            else:
                heapq.heappush(self._free, slot.index)

    def close(self) -> None:
        """Release the camera and the ring."""
        self._camera.close()
        for ring in (self._ring, *self._large.values()):
            ring.close()

    def _run(self, first: int) -> None:
        try:
            for exposure in self._camera.exposures(first):
                self._announced.clear()
                self.mailbox.put(self._take(exposure))
                self._announced.wait(_TURN_S)
        except Exception as error:  # noqa: BLE001 - the edge of a thread that runs an SDK: the loop raises it again
            self.mailbox.put(error)
        else:
            self.mailbox.put(None)

    def _take(self, exposure: Exposure) -> Taken:
        if exposure.pixels is None:
            return Taken(exposure, None, exposure.reason or Reason.UNREADABLE_FRAME)
        if not _is_picture(exposure.pixels):
            return Taken(exposure, None, Reason.UNREADABLE_FRAME, _described(exposure.pixels))
        _, index = self._filling.pop(id(exposure.pixels), (None, None))
        if index is not None:
            return Taken(exposure, self._ring.commit(index), None)
        if exposure.pixels.nbytes > self._ring.slot_bytes:
            return self._take_large(exposure, exposure.pixels)
        index = self._occupy()
        if index is None:
            return Taken(exposure, None, Reason.OVERRUN)
        return Taken(exposure, self._ring.write(index, exposure.pixels), None)

    def _take_large(self, exposure: Exposure, pixels: Pixels) -> Taken:
        if len(self._large) >= self._slots:
            return Taken(exposure, None, Reason.OVERRUN)
        try:
            ring = RingWriter(self._path(), 1, pixels.nbytes)
        except StoreError as error:
            logger().warning("no memory for a large frame", error=str(error))
            return Taken(exposure, None, Reason.OVERRUN)
        self._large[ring.path.name] = ring
        return Taken(exposure, ring.write(0, pixels), None)

    def _path(self) -> Path:
        return self._folder / f"{self._name}.{time.monotonic_ns():x}.ring"

    def _occupy(self) -> int | None:
        with self._lock:
            return heapq.heappop(self._free) if self._free else None

    def _vacate(self, index: int) -> None:
        with self._lock:
            heapq.heappush(self._free, index)

    def _sent(self, index: int) -> None:
        """Count what has been sent; whichever thread drops the last reference to it comes here."""
        with self._lock:
            self._sending[index] -= 1
            if not self._sending[index] and index in self._freed:
                self._freed.remove(index)
                self._vacate(index)


def _is_picture(pixels: object) -> bool:
    """Tell whether this is what a camera must give: uint8 `(H, W, 1)` or `(H, W, 3)`, none of them 0."""
    return (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == _DIMENSIONS
        and pixels.shape[2] in _CHANNELS
        and pixels.size > 0
    )


def _described(pixels: object) -> str:
    if not isinstance(pixels, np.ndarray):
        return f"{type(pixels).__name__}, not an array"
    return f"{pixels.dtype} {pixels.shape}, not uint8 (H, W, 1) or (H, W, 3)"
