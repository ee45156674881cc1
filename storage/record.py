"""How a record stands in a segment of the journal: its parts, framed so that damage is known and passed over.

    mark | length of the body u32 | CRC-32 u32 | body;    body = parts u32 | length of each part u32 … | the parts

all little-endian. The checksum also covers the segment's number and the record's place in it, so that bytes of another
record, of another time or inside a payload, never pass for this one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_MARK = b"AJ1\n"
_HEADER = struct.Struct("<4sII")  # mark, length of the body, checksum
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


def encode(parts: Parts, place: Position) -> bytes:
    """Return the record of a message's parts, for this place and no other."""
    body = b"".join((struct.pack(f"<{len(parts) + 1}I", len(parts), *map(len, parts)), *parts))
    return _HEADER.pack(_MARK, len(body), _checksum(place, body)) + body


def parse(content: bytes, start: Position) -> Iterator[Record | Damage]:
    """Yield all of `content`, which lies at `start`: records, and the stretches between them that are none."""
    place = 0
    while place < len(content):
        record = _record(content, place, start)
        if record is not None:
            yield record
            place = record.end.offset - start.offset
        else:
            following = _next_record(content, place + 1, start)
            yield Damage(content[place:following], start.further(place), start.further(following))
            place = following


def _checksum(place: Position, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(_PLACE.pack(*place)))


def _record(content: bytes, place: int, start: Position) -> Record | None:
    """Return the record that begins at `place` of what was read from `start` on; None if there is none."""
    begin = place + _HEADER.size
    if begin > len(content):
        return None
    mark, length, checksum = _HEADER.unpack_from(content, place)
    end = begin + length
    if mark != _MARK or end > len(content):
        return None
    position = start.further(place)
    if _checksum(position, memoryview(content)[begin:end]) != checksum:
        return None
    count = _COUNT.unpack_from(content, begin)[0]
    parts, at = [], begin + _COUNT.size * (count + 1)
    for size in struct.unpack_from(f"<{count}I", content, begin + _COUNT.size):
        parts.append(content[at : at + size])
        at += size
    return Record(parts, position, start.further(end))


def _next_record(content: bytes, place: int, start: Position) -> int:
    """Return where the next record after damage begins: the end if there is none."""
    while (place := content.find(_MARK, place)) >= 0:
        if _record(content, place, start) is not None:
            return place
        place += 1
    return len(content)
