"""Verdicts and gate reports on their way to storage, in memory that outlives the process.

No disk stands between trigger and gate, yet a verdict that the gate has acted on must not be lost with the process
that gave it. The outbox is a ring of records in a file of the runtime folder (tmpfs): writing it is a memory copy, and
a restarted decision stage finds there what storage has not confirmed and which parts have been judged already.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import TYPE_CHECKING

from config.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MAGIC = b"ANDONOUT"
_HEADER = struct.Struct("<8sQQQ")  # magic, then three ever-growing offsets: oldest, unconfirmed, end
_HEADER_BYTES = 64
_RECORD = struct.Struct("<II")  # bytes of the body, CRC-32 of the body
_PAD = 0xFFFFFFFF  # "the rest up to the ring's end is empty"


class OutboxFullError(StoreError):
    """Storage has confirmed nothing for so long that nothing more can be kept."""


class Outbox:
    """A ring of records: appended at the end, confirmed from the front, kept after that until overwritten."""

    def __init__(self, path: Path, size_bytes: int = 32 * 1024 * 1024) -> None:
        """Open the ring or make it; one that is damaged or of another size is refused with StoreError."""
        self._size = size_bytes
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fresh = os.fstat(descriptor).st_size == 0
                os.posix_fallocate(descriptor, 0, _HEADER_BYTES + size_bytes)
                self._map = mmap.mmap(descriptor, _HEADER_BYTES + size_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot reserve {size_bytes / 1e6:.0f} MB for verdicts: {error.strerror}"
            ) from error
        if fresh:
            _HEADER.pack_into(self._map, 0, _MAGIC, 0, 0, 0)
        offsets: tuple[bytes, int, int, int] = _HEADER.unpack_from(self._map)
        magic, self._oldest, self._unconfirmed, self._end = offsets
        if magic != _MAGIC or not self._oldest <= self._unconfirmed <= self._end <= self._oldest + size_bytes:
            raise StoreError(f"{path}: not an outbox of this version; remove it when nothing in it is missed")
        self._confirmed: dict[str, bool] = {}
        self._order: list[tuple[str, int]] = []  # unconfirmed records: id, offset behind the record
        self._first = 0

    @property
    def fill(self) -> float:
        """Share of the ring that storage has not confirmed."""
        return (self._end - self._unconfirmed) / self._size

    def append(self, record_id: str, parts: Sequence[bytes | memoryview]) -> None:
        """Keep the parts of an encoded message; raise OutboxFullError if unconfirmed records fill the ring."""
        body = _pack([record_id.encode(), *parts])
        needed = _RECORD.size + len(body)
        start = self._end
        room = self._size - start % self._size
        if room < needed:
            start += room
        end = start + needed
        if end - self._unconfirmed > self._size:
            raise OutboxFullError(f"{self._size / 1e6:.0f} MB of verdicts wait for storage")
        self._make_room(end)
        if room < needed and room >= _RECORD.size:
            _RECORD.pack_into(self._map, self._at(self._end), _PAD, 0)
        at = self._at(start)
        self._map[at + _RECORD.size : at + needed] = body
        _RECORD.pack_into(self._map, at, len(body), zlib.crc32(body))
        self._end = end
        self._write_header()
        self._order.append((record_id, end))
        self._confirmed[record_id] = False

    def confirm(self, record_id: str) -> None:
        """Note that storage has a record on disk."""
        if record_id in self._confirmed:
            self._confirmed[record_id] = True
        while self._first < len(self._order) and self._confirmed[self._order[self._first][0]]:
            done, self._unconfirmed = self._order[self._first]
            del self._confirmed[done]
            self._first += 1
        if self._first > 1000:  # noqa: PLR2004 - now and then, so that the list does not grow for ever
            del self._order[: self._first]
            self._first = 0
        self._write_header()

    def recover(self) -> Iterator[tuple[str, list[bytes], bool]]:
        """Yield id, parts and "storage may not have it" of all records that a former process left, oldest first."""
        offset = self._oldest
        while offset < self._end:
            at, room = self._at(offset), self._size - offset % self._size
            length, crc = _RECORD.unpack_from(self._map, at) if room >= _RECORD.size else (_PAD, 0)
            if length == _PAD:
                offset += room
                continue
            body = self._map[at + _RECORD.size : at + _RECORD.size + length]
            if len(body) != length or zlib.crc32(body) != crc:
                raise StoreError(f"outbox damaged at offset {offset}")
            offset += _RECORD.size + length
            record_id, *parts = _unpack(body)
            waiting = offset > self._unconfirmed
            if waiting:
                self._order.append((record_id.decode(), offset))
                self._confirmed[record_id.decode()] = False
            yield record_id.decode(), parts, waiting

    def _make_room(self, end: int) -> None:
        while end - self._oldest > self._size:
            room = self._size - self._oldest % self._size
            length = _RECORD.unpack_from(self._map, self._at(self._oldest))[0] if room >= _RECORD.size else _PAD
            self._oldest += room if length == _PAD else _RECORD.size + length
        self._write_header()

    def _at(self, offset: int) -> int:
        return _HEADER_BYTES + offset % self._size

    def _write_header(self) -> None:
        _HEADER.pack_into(self._map, 0, _MAGIC, self._oldest, self._unconfirmed, self._end)


def _pack(parts: Sequence[bytes | memoryview]) -> bytes:
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def _unpack(body: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(body):
        (length,) = struct.unpack_from("<I", body, at)
        parts.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return parts
