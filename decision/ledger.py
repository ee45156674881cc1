"""What the handshake knows, in memory that outlives the process: one page of a file in the runtime folder (tmpfs)."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Final

from config.errors import MessageError, StoreError
from config.log import logger
from config.messages import as_json, from_json
from decision.handshake import Memory

_HEADER: Final = struct.Struct("<II")  # checksum and length of what follows
PAGE_BYTES: Final = 4096  # the kernel copies a page whole or not at all, whenever the process is killed


class Ledger:
    """The memory of one run's handshake; those of former runs are removed."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Open the run's file in `folder`, or make it; raise StoreError where there is no room."""
        path = folder / f"handshake.{run_id}"
        for former in folder.glob("handshake.*"):
            if former != path:
                former.unlink(missing_ok=True)
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(self._descriptor, 0, PAGE_BYTES)  # a full folder must not end a run that has begun
        except OSError as error:
            raise StoreError(f"{path}: no room for what the handshake knows: {error.strerror}") from error

    def read(self) -> Memory:
        """Return what was written last; nothing known for a new run."""
        page = os.pread(self._descriptor, PAGE_BYTES, 0)
        if not page.strip(b"\0"):
            return Memory()
        try:
            checksum, length = _HEADER.unpack_from(page)
            content = page[_HEADER.size : _HEADER.size + length]
            if zlib.crc32(content) == checksum:
                return from_json(Memory, content)
            damage = "wrong checksum"
        except (struct.error, MessageError) as error:
            damage = str(error)
        logger().warning("what the handshake knew of this run is lost", file=str(self._path), damage=damage)
        return Memory()

    def write(self, memory: Memory) -> None:
        """Keep what is known now."""
        content = as_json(memory)
        os.pwrite(self._descriptor, _HEADER.pack(zlib.crc32(content), len(content)) + content, 0)

    def close(self) -> None:
        """Release the file; what it holds stays."""
        os.close(self._descriptor)
