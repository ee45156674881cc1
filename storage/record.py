"""How a record stands in a segment of the journal: its parts, framed so that damage is known and passed over.

    mark | length of the body u32 | CRC-32 u32 | body;    body = parts u32 | length of each part u32 … | the parts

all little-endian. The checksum also covers the segment's number and the record's place in it, so that bytes of another
record, of another time or inside a payload, never pass for this one. What a length or a count says is believed only
within the bytes that are there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LARGEST_BYTES = 1 << 30  # of a record; one that claims more is damage, and nobody allocates what it claims
MOST_PARTS = 1 << 16
MOST_SEGMENTS = 1 << 31  # a segment and an offset together are one of PostgreSQL's 64-bit integers

_MARK = b"AJ1\n"
_HEADER = struct.Struct("<4sII")  # mark, length of the body, checksum
_START = struct.Struct("<4sIII")  # and how many parts
_PLACE = struct.Struct("<QQ")  # segment, offset
_COUNT = struct.Struct("<I")

Parts = Sequence[bytes | memoryview]


class Position(NamedTuple):
    """A place in the journal."""

    segment: int
    offset: int

    def further(self, count: int) -> Position:
        """Return the place that lies `count` bytes further in the same segment."""
        return Position(self.segment, self.offset + count)


class Record(NamedTuple):
    """A record read back: the parts of its message, where it begins and where the next one does."""

    parts: list[bytes]
    start: Position
    end: Position


class Damage(NamedTuple):
    """Bytes that are no record."""

    content: bytes
    start: Position
    end: Position


def size(parts: Parts) -> int:
    """Return how many bytes the record of a message's parts takes."""
    return _HEADER.size + _COUNT.size * (len(parts) + 1) + sum(map(len, parts))


def fits(parts: Parts) -> bool:
    """Tell whether a message can be a record at all."""
    return len(parts) <= MOST_PARTS and size(parts) <= LARGEST_BYTES


def encode(parts: Parts, place: Position) -> bytes:
    """Return the record of a message's parts, which must fit, for this place and no other."""
    body = b"".join((struct.pack(f"<{len(parts) + 1}I", len(parts), *map(len, parts)), *parts))
    return _HEADER.pack(_MARK, len(body), _checksum(*place, body)) + body


def parse(content: bytes, start: Position, more_bytes: int = 0) -> Iterator[Record | Damage]:
    """Yield what `content`, which lies at `start`, holds: records, and the stretches between them that are none.

    If `more_bytes` lie behind it, what may be a record that goes on there is left out, with all after it: read again
    from there, at least `claimed_bytes`.
    """
    place = 0
    while place < len(content):
        record = _record(content, place, start)
        if record is not None:
            yield record
            place = record.end.offset - start.offset
            continue
        if _is_open(content, place, more_bytes):
            return
        following = _next_record(content, place + 1, start, more_bytes)
        yield Damage(content[place:following], start.further(place), start.further(following))
        place = following


def claimed_bytes(content: bytes) -> int:
    """Return how many bytes the record takes that `content` seems to begin with."""
    if len(content) < _HEADER.size:
        return _HEADER.size
    _, length, _ = _HEADER.unpack_from(content)
    return _HEADER.size + int(length)


def _checksum(segment: int, offset: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_PLACE.pack(segment, offset)))


def _record(content: bytes, place: int, start: Position) -> Record | None:
    """Return the record that begins at `place` of what was read from `start` on; None if there is none."""
    begin = place + _HEADER.size
    at = begin + _COUNT.size
    if at > len(content):
        return None
    mark, length, checksum, count = _START.unpack_from(content, place)
    end = begin + length
    if mark != _MARK or end > len(content) or end - place > LARGEST_BYTES:
        return None
    part = at + _COUNT.size * count
    segment, offset = start
    if count > MOST_PARTS or part > end or _checksum(segment, offset + place, content[begin:end]) != checksum:
        return None
    parts = []
    for (size_bytes,) in _COUNT.iter_unpack(content[at:part]):
        parts.append(content[part : part + size_bytes])
        part += size_bytes
    if part != end:
        return None
    return Record(parts, Position(segment, offset + place), Position(segment, offset + end))


def _is_open(content: bytes, place: int, more_bytes: int) -> bool:
    """Tell whether a record may begin at `place` and end in the bytes behind `content`."""
    if not more_bytes or not content.startswith(_MARK[: len(content) - place], place):
        return False
    rest = len(content) - place
    return rest < _HEADER.size or rest < claimed_bytes(content[place : place + _HEADER.size]) <= min(
        rest + more_bytes, LARGEST_BYTES
    )


def _next_record(content: bytes, place: int, start: Position, more_bytes: int) -> int:
    """Return where the next record after damage begins, or what may be one: the end if there is none."""
    begin = place
    while (place := content.find(_MARK, place)) >= 0:
        if _record(content, place, start) is not None or _is_open(content, place, more_bytes):
            return place
        place += 1
    # the last bytes may be the beginning of a mark
    return max(begin, len(content) - len(_MARK) + 1) if more_bytes else len(content)
