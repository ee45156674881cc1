"""Frames in shared memory: one writer (the grabber), many readers (workers), no locks.

A ring is a file in the runtime folder (tmpfs): 64 bytes of header, then for each slot 64 bytes whose first eight are
its generation, then the slots' pixels. The writer makes the generation odd while it writes and even when it is done; a
reader that finds another generation than the message named, before or after its look, has the wrong pixels and says so.
Nothing need be copied: a camera may fill the slot itself, and slots that lie side by side are one batch.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config.errors import InputError, StoreError
from config.messages import Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

_MAGIC = b"ANDONRING1"
_HEADER = struct.Struct("<10s6xQQ")  # magic, slots, bytes of a slot
_HEADER_BYTES = 64
_META_BYTES = 64
_META = _META_BYTES // 8  # in words
_PAGE_BYTES = 4096


def _pixels_offset(slots: int) -> int:
    meta_end = _HEADER_BYTES + slots * _META_BYTES
    return -(-meta_end // _PAGE_BYTES) * _PAGE_BYTES


class RingWriter:
    """Create a ring and write frames into its slots.

    The caller says which slot is free: the grabber owns a frame until it has been answered for.
    """

    def __init__(self, path: Path, slots: int, slot_bytes: int) -> None:
        """Reserve the memory at once, so that a full tmpfs is an error here and no crash later."""
        self.path = path
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // 64) * 64
        size = _pixels_offset(slots) + slots * self.slot_bytes
        path.unlink(missing_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
                self._map = mmap.mmap(descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            finally:
                os.close(descriptor)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"{path}: cannot reserve {size / 1e6:.0f} MB for {slots} frames: {error.strerror}; "
                "lower the camera's `slots` or free shared memory"
            ) from error
        self._name = path.name
        self._pixels = _pixels_offset(slots)
        self._generations = _generations(self._map, slots)
        _HEADER.pack_into(self._map, 0, _MAGIC, slots, self.slot_bytes)

    def begin(self, index: int, shape: tuple[int, int, int]) -> Pixels:
        """Return the memory of slot `index` for a frame of `shape`; no reader takes the slot for good until `commit`.

        Raise InputError where the frame does not fit.
        """
        if math.prod(shape) > self.slot_bytes:
            raise InputError(f"frame of {math.prod(shape)} bytes does not fit a slot of {self.slot_bytes}")
        self._generations[index * _META] |= 1
        return _view(self._map, self._pixels + index * self.slot_bytes, shape)

    def commit(self, index: int) -> Slot:
        """Say that the slot's pixels are all there, and return where they are."""
        generation = self._generations[index * _META] = self._generations[index * _META] + 1
        return Slot(ring=self._name, index=index, generation=generation)

    def write(self, index: int, pixels: Pixels) -> Slot:
        """Copy `pixels` `(H, W, C)` (uint8, C-contiguous or not) into slot `index` and return where they are."""
        height, width, channels = pixels.shape
        np.copyto(self.begin(index, (height, width, channels)), pixels)
        return self.commit(index)

    def view(self, slot: Slot, shape: tuple[int, int, int]) -> Pixels:
        """Return the pixels of a slot without copying; they stay good until the slot is written again."""
        return _view(self._map, self._pixels + slot.index * self.slot_bytes, shape)

    def close(self) -> None:
        """Remove the ring's file; readers keep their mapping until they close it."""
        self.path.unlink(missing_ok=True)


class RingReader:
    """Read frames from a ring that a grabber made."""

    def __init__(self, path: Path) -> None:
        """Map the ring; raise StoreError if it is gone or no ring."""
        self.name = path.name
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot map the camera's ring: {error}") from error
        if len(self._map) < _HEADER_BYTES:
            raise StoreError(f"{path}: too short for a ring")
        magic, self._slots, self._slot_bytes = _HEADER.unpack_from(self._map)
        self._pixels = _pixels_offset(self._slots)
        if magic != _MAGIC or len(self._map) != self._pixels + self._slots * self._slot_bytes:
            raise StoreError(f"{path}: not a ring of this version")
        self._generations = _generations(self._map, self._slots)

    def holds(self, slot: Slot) -> bool:
        """Tell whether the slot still holds the frame that was meant; ask again after a look at its `view`."""
        if slot.index >= self._slots:
            return False
        return self._generations[slot.index * _META] == slot.generation

    def view(self, slot: Slot, shape: tuple[int, int, int]) -> Pixels | None:
        """Return a slot's pixels `(H, W, C)`, read-only, not copied; None if it holds another frame or none so large.

        What was made of them counts only if `holds` is still true afterwards.
        """
        if not self.holds(slot) or math.prod(shape) > self._slot_bytes:
            return None
        return _view(self._map, self._pixels + slot.index * self._slot_bytes, shape)

    def views(self, slots: Sequence[Slot], shape: tuple[int, int, int]) -> Pixels | None:
        """Return the pixels of several slots as one batch `(N, H, W, C)`, as `view` does.

        None also where the slots do not lie side by side in this order, or a frame does not fill its slot.
        """
        if len(slots) == 1:
            alone = self.view(slots[0], shape)
            return None if alone is None else alone[None]
        first = slots[0].index
        beside = all(slot.index == first + place for place, slot in enumerate(slots))
        filled = math.prod(shape) == self._slot_bytes
        if not (beside and filled and all(self.holds(slot) for slot in slots)):
            return None
        return _view(self._map, self._pixels + first * self._slot_bytes, (len(slots), *shape))

    def read(self, slot: Slot, out: Pixels) -> bool:
        """Copy a slot into `out` `(H, W, C)`; False if the slot holds another frame, before or after the copy."""
        height, width, channels = out.shape
        pixels = self.view(slot, (height, width, channels))
        if pixels is None:
            return False
        np.copyto(out, pixels)
        return self.holds(slot)


def _generations(memory: mmap.mmap, slots: int) -> memoryview[int]:
    """Return the slots' words, of each the first is its generation: read and written whole, which struct does not."""
    return memoryview(memory)[_HEADER_BYTES : _HEADER_BYTES + slots * _META_BYTES].cast("Q")


def _view(memory: mmap.mmap, offset: int, shape: tuple[int, ...]) -> Pixels:
    return np.ndarray(shape, np.uint8, memory, offset)
