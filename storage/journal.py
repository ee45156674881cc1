"""The journal: records on disk, each with its checksum, until PostgreSQL has them.

A folder of append-only segments `000000000001.segment`, filled with records as `storage/record.py` frames them.

After each start a new segment is begun; the torn tail of the last one is cut off. Bytes elsewhere that are no record
are counted, logged and kept in `damaged/`; the records after them are found by their mark. What PostgreSQL refuses is
kept in `refused/`. Both folders count towards the journal's bound: nothing here ever fills the disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from config import files
from config.errors import StoreError
from config.log import logger
from storage import record as framing
from storage.record import Damage, Parts, Position, Record

_SEGMENT_BYTES = 16 * 1024 * 1024
_SEGMENTS_AT_LEAST = 8  # in the bound: space comes back one segment at a time
_SUFFIX = ".segment"
_SEGMENTS = "[0-9]" * 12 + _SUFFIX


class Batch(NamedTuple):
    """Records in order, and the position after them."""

    records: list[Record]
    end: Position


class Journal:
    """Append and read records; one thread appends, one other may read and release."""

    def __init__(self, folder: Path, limit_bytes: int, free_disk_bytes: int, counters: Counter[str]) -> None:
        """Open the journal in `folder`, which must exist, and cut off a torn tail.

        It takes no more than `limit_bytes` and leaves `free_disk_bytes` of the disk alone. Raise StoreError if
        another process holds it or the disk does not let it be read.
        """
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, limit_bytes // _SEGMENTS_AT_LEAST)
        self._free_disk_bytes = free_disk_bytes
        self._counters = counters
        self._guard = threading.Lock()  # of _sizes and _aside_bytes
        self._file: int | None = None  # the segment being appended to; None: begin one
        try:
            self._hold()
            self._sizes = {int(path.stem): path.stat().st_size for path in folder.glob(_SEGMENTS)}
            self._aside_bytes = sum(file.stat().st_size for file in folder.glob("*/*"))
            self.identity = self._identify()
            self._repair()
        except OSError as error:
            raise StoreError(f"{folder}: the journal cannot be opened: {error}") from error
        self._number = max(self._sizes, default=0)  # of the newest segment

    @property
    def size_bytes(self) -> int:
        """All that the journal takes on disk."""
        with self._guard:
            return sum(self._sizes.values()) + self._aside_bytes

    def append(self, records: Sequence[Parts]) -> list[int]:
        """Write records and return the indices of those that are on disk now; the others met a bound.

        Raise StoreError if the disk does not take them: then none of them counts.
        """
        taken: list[int] = []
        try:
            room = min(self._limit_bytes - self.size_bytes, self._free_bytes())
            chunk = bytearray()
            file, offset = self._ready()
            for index, parts in enumerate(records):
                framed = framing.encode(parts, Position(self._number, offset + len(chunk)))
                if len(chunk) + len(framed) <= room:
                    chunk += framed
                    taken.append(index)
            if chunk:
                self._write(file, chunk, offset)
        except OSError as error:
            raise StoreError(f"{self.folder}: the disk does not take the journal: {error.strerror}") from error
        return taken

    def resume(self, cursor: Position | None) -> Position:
        """Return where to read on from, given the position that PostgreSQL holds for this journal, if any."""
        with self._guard:
            first, last = min(self._sizes, default=1), max(self._sizes, default=0)
        if cursor is None or cursor.segment < first:
            return Position(first, 0)
        if cursor.segment > max(last, self._number):
            logger().warning("PostgreSQL has a position that this journal never reached: all of it is read again")
            return Position(first, 0)
        return cursor

    def read(self, start: Position, limit_bytes: int) -> Batch:
        """Return records from `start` on, at least one if there is one, until they take `limit_bytes`.

        Raise StoreError if the disk does not give them.
        """
        records: list[Record] = []
        position, size = start, 0
        while size < limit_bytes:
            with self._guard:
                end = self._sizes.get(position.segment, 0)
                later = [number for number in self._sizes if number > position.segment]
            if position.offset < end:
                for found in self._parse(position, end):
                    position = found.end
                    if isinstance(found, Record):
                        records.append(found)
                        size += found.end.offset - found.start.offset
                        if size >= limit_bytes:
                            break
                    else:
                        self._keep_damaged(found)
            elif later:
                position = Position(min(later), 0)
            else:
                break
        return Batch(records, position)

    def behind_bytes(self, position: Position) -> int:
        """Return how many bytes lie after `position`."""
        with self._guard:
            return sum(
                size - (position.offset if number == position.segment else 0)
                for number, size in self._sizes.items()
                if number >= position.segment
            )

    def release(self, position: Position) -> None:
        """Remove the segments before `position`: PostgreSQL has what is in them."""
        with self._guard:
            done = [number for number in self._sizes if number < min(position.segment, self._number)]
        for number in done:
            try:
                self._path(number).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{self._path(number)}: cannot be removed: {error.strerror}") from error
            with self._guard:
                del self._sizes[number]

    def refuse(self, record: Record, reason: str) -> None:
        """Keep a record that PostgreSQL does not take in `refused/`, with the reason."""
        kind = bytes(record.parts[0])[:40].decode(errors="replace") if record.parts else ""
        name = f"{record.start.segment:012}-{record.start.offset:010}"
        self._keep_aside("refused", f"{name}.json", json.dumps({"kind": kind, "reason": reason}).encode())
        if self._keep_aside("refused", f"{name}.record", framing.encode(record.parts, record.start)):
            self._counters["refused_records"] += 1
            logger().error("record refused by PostgreSQL", kind=kind, kept=f"refused/{name}.record", reason=reason)

    def close(self) -> None:
        """Stop appending; everything that was acknowledged is on disk already."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _hold(self) -> None:
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip()
            os.close(self._lock)
            raise StoreError(f"{self.folder}: process {holder} holds this journal") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _identify(self) -> str:
        """Name this journal for PostgreSQL's cursor; a journal that lost its segments counts as a new one."""
        path = self.folder / "identity"
        known = path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
        if not known or not self._sizes:
            known = uuid.uuid4().hex
            files.write(path, known.encode())
            _sync_folder(self.folder)
        return known

    def _repair(self) -> None:
        if not self._sizes:
            return
        number = max(self._sizes)
        end = 0
        for found in self._parse(Position(number, 0), self._sizes[number]):
            if isinstance(found, Record):
                end = found.end.offset
        torn = self._sizes[number] - end
        if not torn:
            return
        self._counters["torn_tails"] += 1
        logger().warning("torn tail of the journal cut off", segment=number, bytes=torn)
        with self._path(number).open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
        self._sizes[number] = end

    def _parse(self, start: Position, end: int) -> Iterator[Record | Damage]:
        """Yield what lies between `start` and offset `end` of its segment."""
        try:
            with self._path(start.segment).open("rb") as file:
                file.seek(start.offset)
                content = file.read(end - start.offset)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise StoreError(f"{self._path(start.segment)}: cannot be read: {error.strerror}") from error
        yield from framing.parse(content, start)
        if start.offset + len(content) < end:  # somebody shortened or removed the file
            yield Damage(b"", start.further(len(content)), Position(start.segment, end))

    def _keep_damaged(self, damage: Damage) -> None:
        name = f"{damage.start.segment:012}-{damage.start.offset:010}"
        if self._keep_aside("damaged", name, damage.content):
            self._counters["damaged_stretches"] += 1
            size = damage.end.offset - damage.start.offset
            logger().error("damaged bytes in the journal", kept=f"damaged/{name}", bytes=size)

    def _keep_aside(self, folder: str, name: str, content: bytes) -> bool:
        """Keep `content`; False if it was kept already, before a restart."""
        path = self.folder / folder / name
        if path.exists():
            return False
        try:
            path.parent.mkdir(exist_ok=True)
            files.write(path, content)
            _sync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"{path}: cannot be kept aside: {error.strerror}") from error
        with self._guard:
            self._aside_bytes += len(content)
        return True

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize - self._free_disk_bytes

    def _ready(self) -> tuple[int, int]:
        """Make sure that a segment with space is open; return its file and the offset of its end."""
        if self._file is not None and self._sizes[self._number] >= self._segment_bytes:
            os.close(self._file)
            self._file = None
        if self._file is None:
            number = self._number + 1
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(self._path(number), flags, 0o644)
            try:
                _sync_folder(self.folder)
            except OSError:
                os.close(file)
                self._path(number).unlink(missing_ok=True)
                raise
            self._file, self._number = file, number
            with self._guard:
                self._sizes[number] = 0
        return self._file, self._sizes[self._number]

    def _write(self, file: int, chunk: bytearray, offset: int) -> None:
        """Write all of `chunk` at `offset` and to disk, or leave no trace of it."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.pwrite(file, rest, offset + len(chunk) - len(rest)) :]
        except OSError:
            os.ftruncate(file, offset)
            raise
        try:
            os.fdatasync(file)
        except OSError:
            self._abandon(file, offset)
            raise
        with self._guard:
            self._sizes[self._number] = offset + len(chunk)

    def _abandon(self, file: int, end: int) -> None:
        """Append no more to this segment: after a failed fsync nobody knows what a second one would mean."""
        self._file = None
        try:
            os.ftruncate(file, end)
        finally:
            os.close(file)
        if not end:
            self._path(self._number).unlink()
            with self._guard:
                del self._sizes[self._number]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012}{_SUFFIX}"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
