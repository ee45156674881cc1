"""Frames in shared memory: one writer (the grabber), many readers (workers), no locks.

A ring is a file in the runtime folder (tmpfs): 64 bytes of header, then for each slot 64 bytes whose first eight are
its generation, then the slots' pixels. The writer makes the generation odd while it writes and even when it is done; a
reader that finds another generation than the message named, before or after its copy, has the wrong pixels and says so.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config.errors import InputError, StoreError
from config.messages import Slot

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

_MAGIC = b"ANDONRING1"
_HEADER = struct.Struct("<10s6xQQ")  # magic, slots, bytes of a slot
_HEADER_BYTES = 64
_META_BYTES = 64
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
                self._map = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"{path}: cannot reserve {size / 1e6:.0f} MB for {slots} frames: {error.strerror}; "
                "lower the camera's `slots` or free shared memory"
            ) from error
        self._pixels = _pixels_offset(slots)
        _HEADER.pack_into(self._map, 0, _MAGIC, slots, self.slot_bytes)

    def write(self, index: int, pixels: Pixels) -> Slot:
        """Copy `pixels` (uint8, C-contiguous or not) into slot `index` and return where they are."""
        if pixels.nbytes > self.slot_bytes:
            raise InputError(f"frame of {pixels.nbytes} bytes does not fit a slot of {self.slot_bytes}")
        meta = _HEADER_BYTES + index * _META_BYTES
        (generation,) = struct.unpack_from("<Q", self._map, meta)
        struct.pack_into("<Q", self._map, meta, generation + 1)
        start = self._pixels + index * self.slot_bytes
        target = np.frombuffer(self._map, np.uint8, pixels.nbytes, start).reshape(pixels.shape)
        np.copyto(target, pixels)
        struct.pack_into("<Q", self._map, meta, generation + 2)
        return Slot(ring=self.path.name, index=index, generation=generation + 2)

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
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot map the camera's ring: {error}") from error
        if len(self._map) < _HEADER_BYTES:
            raise StoreError(f"{path}: too short for a ring")
        magic, self._slots, self._slot_bytes = _HEADER.unpack_from(self._map)
        self._pixels = _pixels_offset(self._slots)
        if magic != _MAGIC or len(self._map) != self._pixels + self._slots * self._slot_bytes:
            raise StoreError(f"{path}: not a ring of this version")

    def read(self, slot: Slot, out: Pixels) -> bool:
        """Copy a slot into `out` `(H, W, C)`; False if the slot now holds another frame."""
        if slot.index >= self._slots or out.nbytes > self._slot_bytes:
            return False
        meta = _HEADER_BYTES + slot.index * _META_BYTES
        if struct.unpack_from("<Q", self._map, meta)[0] != slot.generation:
            return False
        np.copyto(out, _view(self._map, self._pixels + slot.index * self._slot_bytes, out.shape))
        return bool(struct.unpack_from("<Q", self._map, meta)[0] == slot.generation)


def _view(memory: mmap.mmap, offset: int, shape: tuple[int, ...]) -> Pixels:
    count = int(np.prod(shape))
    return np.frombuffer(memory, np.uint8, count, offset).reshape(shape)
