"""The camera's thread: exposures are taken, and their pixels copied into free slots of the ring."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.mailbox import Mailbox
from config.messages import Reason, Slot
from config.ring import RingWriter

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from ingest.camera import Camera, Exposure

_SWITCH_S = 0.0001  # the thread must not keep the loop from announcing a trigger for Python's usual 5 ms


@dataclass(frozen=True)
class Taken:
    """An exposure; its pixels lie in `slot`, unless they are too many for one or `reason` says why there are none."""

    exposure: Exposure
    slot: Slot | None
    reason: Reason | None


class Shutter:
    """Run one camera in a thread of its own and keep its pixels until they are freed.

    `mailbox` gives what was taken; then None when there are no more triggers, or the error that ended the camera.
    """

    def __init__(self, camera: Camera, name: str, folder: Path, slots: int) -> None:
        """Take the camera and make its ring in `folder`; rings that a former process left there are removed."""
        self.mailbox: Mailbox[Taken | BaseException | None] = Mailbox()
        self.started = False
        self._camera = camera
        slot_bytes = camera.open()
        for leftover in folder.glob(f"{name}.*.ring"):
            leftover.unlink(missing_ok=True)
        self._ring = RingWriter(folder / f"{name}.{time.monotonic_ns():x}.ring", slots, slot_bytes)
        self._free = list(range(slots))
        self._lock = threading.Lock()

    def start(self, first: int) -> None:
        """Begin to take exposures, from trigger `first` on."""
        self.started = True
        sys.setswitchinterval(_SWITCH_S)
        threading.Thread(target=self._run, args=(first,), name="camera", daemon=True).start()

    def view(self, slot: Slot, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
        """Return the pixels in a slot without copying; they are good until the slot is freed."""
        return self._ring.view(slot, shape)

    @property
    def free_slots(self) -> int:
        """How many slots could be used now."""
        with self._lock:
            return len(self._free)

    def free(self, slot: Slot | None) -> None:
        """Let a slot be used again."""
        if slot is not None:
            with self._lock:
                self._free.append(slot.index)

    def close(self) -> None:
        """Release the camera and the ring."""
        self._camera.close()
        self._ring.close()

    def _run(self, first: int) -> None:
        try:
            for exposure in self._camera.exposures(first):
                self.mailbox.put(self._take(exposure))
        except Exception as error:  # noqa: BLE001 - the edge of a thread that runs an SDK: the loop raises it again
            self.mailbox.put(error)
        else:
            self.mailbox.put(None)

    def _take(self, exposure: Exposure) -> Taken:
        if exposure.pixels is None:
            return Taken(exposure, None, exposure.reason or Reason.UNREADABLE_FRAME)
        if exposure.pixels.nbytes > self._ring.slot_bytes:
            return Taken(exposure, None, None)
        with self._lock:
            index = self._free.pop() if self._free else None
        if index is None:
            return Taken(exposure, None, Reason.OVERRUN)
        return Taken(exposure, self._ring.write(index, exposure.pixels), None)
