"""The memory in which a worker gathers frames to a batch."""

from __future__ import annotations

import math

import numpy as np

from inference import engines
from inference.images import Frame


class FrameMemory:
    """One block that grows to the largest batch so far, for all engines of a worker: it runs one batch at a time."""

    def __init__(self, device: str = "cpu") -> None:
        """Take memory that `device` reads fastest: pinned where it is a GPU. Raises as `engines.of` does."""
        self._engine, self._place = engines.of(device)
        self._block: Frame = np.empty(0, np.uint8)

    def frames(self, count: int, shape: tuple[int, int, int]) -> Frame:
        """Return uint8 (count, H, W, C), C-contiguous, to be filled in place: the same memory each time."""
        size = count * math.prod(shape)
        if size > self._block.size:
            self._block = np.empty(0, np.uint8)  # let the smaller one go before the larger one comes
            self._block = self._engine.allocate(size, self._place)
        return self._block[:size].reshape(count, *shape)
