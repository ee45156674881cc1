"""The number of the next trigger, in memory that outlives the process that counts."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

from config.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


class Cursor:
    """A number in a file of the runtime folder (tmpfs); it only grows."""

    _FORMAT = struct.Struct("<Q")

    def __init__(self, path: Path) -> None:
        """Open the file or make it; raise StoreError where there is no room."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(self._descriptor, 0, self._FORMAT.size)  # no trigger waits for room later
        except OSError as error:
            raise StoreError(f"{path}: no room for the number of the next trigger: {error.strerror}") from error

    def read(self) -> int:
        """Return the number; 0 for a new run."""
        with contextlib.suppress(struct.error):
            return int(self._FORMAT.unpack(os.pread(self._descriptor, self._FORMAT.size, 0))[0])
        return 0

    def write(self, number: int) -> None:
        """Keep the number if it is the highest yet."""
        if number > self.read():
            os.pwrite(self._descriptor, self._FORMAT.pack(number), 0)
