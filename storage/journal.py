"""The journal: records on disk, each with its checksum, until PostgreSQL has them.

A folder of append-only segments `000000000001.segment`, filled with records as `storage/record.py` frames them.

After each start a new segment is begun; the torn tail of the last one is cut off. Bytes that are no record are counted,
logged and kept in `damaged/`; the records after them are found by their mark. What PostgreSQL refuses is kept in
`refused/`. Both folders have an eighth of the journal's bound (`storage/aside.py`): nothing here ever fills the disk.

Order comes from the segments' numbers alone; clocks say how long something has waited, and nothing else.
"""

from __future__ import annotations

import bisect
import errno
import fcntl
import json
import os
import re
import stat
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from config import files
from config.errors import StoreError
from config.log import logger
from storage import record as framing
from storage.aside import Aside, sync_folder
from storage.record import Damage, Parts, Position, Record

_SEGMENT_BYTES = 16 * 1024 * 1024
_SEGMENTS_AT_LEAST = 8  # in the bound: space comes back one segment at a time
_SUFFIX = ".segment"
_NAME = re.compile(r"[0-9]{12}\.segment")
_ASIDE_SHARE = 8  # of the bound, for what is kept aside
_WINDOW_BYTES = 1024 * 1024  # read at once, unless a record is larger
_IDENTITY = re.compile(r"[0-9a-f]{32}")
_MARKS = 4096  # times remembered; then every second one is forgotten
_MARK_NS = 1_000_000_000


class Batch(NamedTuple):
    """Records in order, and the position after them."""

    records: list[Record]
    end: Position


class Journal:
    """Append and read records; one thread appends, others read; of these one releases, and any may refuse."""

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
        self._guard = threading.Lock()  # of _sizes, _marks and what is counted
        self._file: int | None = None  # the segment being appended to; None: begin one
        try:
            self._lock = self._hold()
        except OSError as error:
            raise StoreError(f"{folder}: the journal cannot be opened: {error}") from error
        try:
            self._aside = Aside(folder, limit_bytes // _ASIDE_SHARE, counters)
            # of the newest segment; a new journal never goes where an older one has left something aside
            self._number = self._aside.last_segment
            self._sizes: dict[int, int] = {}
            self._marks: list[tuple[Position, int]] = []  # what begins there was journalled then (monotonic)
            self._mark_every_ns = _MARK_NS
            self._find_segments()
            self.identity = self._identify()
            self._repair()
        except OSError as error:
            os.close(self._lock)
            raise StoreError(f"{folder}: the journal cannot be opened: {error}") from error

    @property
    def size_bytes(self) -> int:
        """All that the journal takes on disk."""
        with self._guard:
            return sum(self._sizes.values()) + self._aside.size_bytes

    @property
    def room_bytes(self) -> int:
        """How much more it takes, by its own limit and the disk's; raise StoreError if the disk does not say."""
        try:
            return min(self._limit_bytes - self.size_bytes, self._free_bytes())
        except OSError as error:
            raise StoreError(f"{self.folder}: the disk does not answer: {error.strerror}") from error

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
                if framing.fits(parts) and len(chunk) + framing.size(parts) <= room:
                    chunk += framing.encode(parts, Position(self._number, offset + len(chunk)))
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
                max(0, size - (position.offset if number == position.segment else 0))
                for number, size in self._sizes.items()
                if number >= position.segment
            )

    def behind_s(self, position: Position) -> float:
        """Return for how long what lies after `position` has waited, within a second; 0 if there is nothing.

        What an earlier process journalled has waited since the last change of its segment, at least.
        """
        if not self.behind_bytes(position):
            return 0.0
        with self._guard:
            at = bisect.bisect_right(self._marks, position, key=lambda mark: mark[0])
            since_ns = self._marks[max(at - 1, 0)][1] if self._marks else time.monotonic_ns()
        return (time.monotonic_ns() - since_ns) / 1e9

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
        with self._guard:
            at = bisect.bisect_right(self._marks, position, key=lambda mark: mark[0])
            del self._marks[: max(at - 1, 0)]

    def refuse(self, record: Record, reason: str) -> None:
        """Keep a record that PostgreSQL does not take in `refused/`, with the reason."""
        kind = bytes(record.parts[0])[:40].decode(errors="replace") if record.parts else ""
        contents = {
            ".json": json.dumps({"kind": kind, "reason": reason}).encode(),
            ".record": framing.encode(record.parts, record.start),
        }
        if self._aside.keep("refused", record.start, contents):
            with self._guard:
                self._counters["refused_records"] += 1
            logger().error("record refused by PostgreSQL", kind=kind, at=record.start, reason=reason)

    def close(self) -> None:
        """Stop appending; everything that was acknowledged is on disk already."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _hold(self) -> int:
        """Return the file whose lock says that this process holds the journal."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise StoreError(f"{self.folder}: process {holder} holds this journal") from None
        except OSError:
            os.close(lock)
            raise
        return lock

    def _find_segments(self) -> None:
        """Find out which segments there are; what only looks like one is logged and left alone."""
        now_ns, now_s = time.monotonic_ns(), time.time()
        strange = []
        for path in sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: path.name):
            number = int(path.stem) if _NAME.fullmatch(path.name) else 0
            if not 0 < number < framing.MOST_SEGMENTS:
                strange.append(path.name)
                continue
            self._number = max(self._number, number)
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                strange.append(path.name)
                continue
            self._sizes[number] = about.st_size
            waited_ns = max(0, int((now_s - about.st_mtime) * 1e9))
            self._marks.append((Position(number, 0), now_ns - waited_ns))
        if strange:
            self._counters["strange_files"] += len(strange)
            logger().warning("no segments of the journal, left alone", count=len(strange), first=strange[0])

    def _identify(self) -> str:
        """Name this journal for PostgreSQL's cursor; a journal that lost its segments counts as a new one."""
        path = self.folder / "identity"
        known = ""
        if path.exists():
            with path.open("rb") as file:
                known = file.read(64).decode("ascii", errors="replace").strip()
        if not _IDENTITY.fullmatch(known) or not self._sizes:
            known = uuid.uuid4().hex
            files.write(path, known.encode())
            sync_folder(self.folder)
        return known

    def _repair(self) -> None:
        """Cut off what a process that was killed has left behind the last record of the last segment."""
        if not self._sizes:
            return
        number = max(self._sizes)
        tail: Damage | None = None
        try:
            for found in self._parse(Position(number, 0), self._sizes[number]):
                tail = None if isinstance(found, Record) else found if tail is None else _joined(tail, found)
            if tail is None:
                return
            self._aside.keep("damaged", tail.start, {"": tail.content})
        except StoreError as error:
            # not worth a station that cannot begin: the tail counts as damage when it is read
            logger().warning("the tail of the journal was not looked at", segment=number, error=str(error))
            return
        self._counters["torn_tails"] += 1
        logger().warning("torn tail of the journal cut off", segment=number, bytes=tail.end.offset - tail.start.offset)
        with self._path(number).open("r+b") as file:
            file.truncate(tail.start.offset)
            os.fsync(file.fileno())
        self._sizes[number] = tail.start.offset

    def _parse(self, start: Position, end: int) -> Iterator[Record | Damage]:
        """Yield what lies between `start` and offset `end` of its segment; raise StoreError."""
        wanted = _WINDOW_BYTES
        try:
            with self._path(start.segment).open("rb") as file:
                while start.offset < end:
                    file.seek(start.offset)
                    content = file.read(min(wanted, end - start.offset))
                    if not content:
                        break  # somebody shortened the file
                    before = start
                    for found in framing.parse(content, start, end - start.offset - len(content)):
                        start = found.end
                        yield found
                    wanted = _WINDOW_BYTES if start != before else framing.claimed_bytes(content)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{self._path(start.segment)}: cannot be read: {error.strerror}") from error
        if start.offset < end:
            yield Damage(b"", start, Position(start.segment, end))

    def _keep_damaged(self, damage: Damage) -> None:
        size = damage.end.offset - damage.start.offset
        try:
            if not self._aside.keep("damaged", damage.start, {"": damage.content}):
                return
        except StoreError as error:
            # a full disk: what is whole goes on to PostgreSQL all the same, for that is what makes room
            if self._aside.note("damaged", damage.start):
                logger().error("damaged bytes in the journal, not kept", at=damage.start, bytes=size, error=str(error))
                self._counters["damaged_stretches"] += 1
            return
        with self._guard:
            self._counters["damaged_stretches"] += 1
        logger().error("damaged bytes in the journal, kept in damaged/", at=damage.start, bytes=size)

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
            while os.path.lexists(self._path(number)):
                number += 1  # somebody else's
            if number >= framing.MOST_SEGMENTS:
                raise OSError(errno.EFBIG, f"{self._path(number - 1)} has the highest number that there is: remove it")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(self._path(number), flags, 0o644)
            try:
                sync_folder(self.folder)
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
                rest = rest[_pwrite(file, rest, offset + len(chunk) - len(rest)) :]
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
            self._mark(Position(self._number, offset))

    def _mark(self, position: Position) -> None:
        """Remember when what begins at `position` was journalled: coarser, the longer the way back is."""
        now_ns = time.monotonic_ns()
        if self._marks and now_ns - self._marks[-1][1] < self._mark_every_ns:
            return
        self._marks.append((position, now_ns))
        if len(self._marks) > _MARKS:
            del self._marks[1::2]
            self._mark_every_ns *= 2

    def _abandon(self, file: int, end: int) -> None:
        """Append no more to this segment: after a failed fsync nobody knows what a second one would mean."""
        self._file = None
        try:
            os.ftruncate(file, end)
        finally:
            os.close(file)
        if not end:
            self._path(self._number).unlink(missing_ok=True)
            with self._guard:
                del self._sizes[self._number]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012}{_SUFFIX}"


def _pwrite(file: int, content: memoryview, offset: int) -> int:
    written = os.pwrite(file, content, offset)
    if not written:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return written


def _joined(tail: Damage, more: Damage) -> Damage:
    """Return both as one; of its bytes no more than can be looked at."""
    return Damage((tail.content + more.content)[:_WINDOW_BYTES], tail.start, more.end)
