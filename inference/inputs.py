"""From frames to the tensor that is inferred: the ring's own memory wherever that can be, else one copy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from config.errors import StoreError
from config.ring import RingReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from config.messages import Buffer, Frame
    from inference.memory import FrameMemory

    Pixels = npt.NDArray[np.uint8]
    Arrived = tuple[Frame, Buffer | None]  # the pixels too, where they came from another machine


class Inputs:
    """Find or make the input of a batch."""

    def __init__(self, runtime: Path, memory: FrameMemory, *, in_place: bool) -> None:
        """Read rings in the folder `runtime`; never `in_place` where the device reads `memory` faster."""
        self._runtime = runtime
        self._memory = memory
        self._in_place = in_place
        self._rings: dict[str, RingReader] = {}

    def gather(self, batch: Sequence[Arrived], bucket: int, shape: tuple[int, int, int]) -> tuple[Pixels, list[bool]]:
        """Return uint8 `(bucket, H, W, C)` and, frame by frame, whether its pixels are there.

        The pixels that are there come first, in the batch's order. They count only if `whole` is still true after they
        have been used. The memory is good until the next call.
        """
        if self._in_place and bucket == len(batch):
            found = self._found(batch, shape)
            if found is not None:
                return found, [True] * bucket
        images = self._memory.frames(bucket, shape)
        there: list[bool] = []
        for frame, pixels in batch:
            there.append(self._copy(frame, pixels, images[sum(there)]))
        return images, there

    def whole(self, frame: Frame) -> bool:
        """Tell whether a frame's pixels have stayed what they were."""
        if frame.slot is None:
            return True
        ring = self._ring(frame.slot.ring)
        return ring is not None and ring.holds(frame.slot)

    def _found(self, batch: Sequence[Arrived], shape: tuple[int, int, int]) -> Pixels | None:
        pixels = batch[0][1]
        if pixels is not None:
            alone = len(batch) == 1 and len(pixels) == math.prod(shape)
            return np.frombuffer(pixels, np.uint8).reshape(1, *shape) if alone else None
        slots = [frame.slot for frame, _ in batch if frame.slot is not None]
        if len(slots) < len(batch) or any(slot.ring != slots[0].ring for slot in slots):
            return None
        ring = self._ring(slots[0].ring)
        return ring.views(slots, shape) if ring else None

    def _copy(self, frame: Frame, pixels: Buffer | None, out: Pixels) -> bool:
        if pixels is not None:
            if len(pixels) != out.nbytes:
                return False
            np.copyto(out, np.frombuffer(pixels, np.uint8).reshape(out.shape))
            return True
        ring = self._ring(frame.slot.ring) if frame.slot else None
        return ring is not None and frame.slot is not None and ring.read(frame.slot, out)

    def _ring(self, name: str) -> RingReader | None:
        ring = self._rings.get(name)
        if ring is None:
            for old in [old for old in self._rings if not (self._runtime / old).exists()]:
                del self._rings[old]  # of a grabber that is gone, or of one large frame
            try:
                ring = self._rings[name] = RingReader(self._runtime / name)
            except StoreError:
                return None
        return ring
