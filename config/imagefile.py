"""What an image file's bytes say without decoding them: its size in pixels, and whether it is all there.

Decoders fill what a truncated file lacks with grey and hardly complain; a part must not be judged by that.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_BMP = b"BM"
_PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:(?:\s|#[^\n]*\n)+(\d+))?\s")
_HEADER_BYTES = 256 * 1024  # a JPEG may carry a preview picture before its size
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers (ITU-T T.81, table B.1)
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_JPEG_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"
_BITMAP, _GRAYMAP, _PIXMAP = 4, 5, 6  # the binary kinds of PNM


def size_px(path: Path) -> tuple[int, int] | None:
    """Return width and height as the header of a PNG, JPEG, BMP or PNM file has them, None if it has none."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER_BYTES)
    except OSError:
        return None
    return size_of(data)


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return width and height as the header of an image's bytes has them, as `size_px` does."""
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(_JPEG):
            width, height = _jpeg_size(data)
        elif data.startswith(_BMP):
            width, height = struct.unpack_from("<ii", data, 18)
        elif header := _PNM.match(data):
            width, height = int(header[2]), int(header[3])
        else:
            return None
    except (struct.error, ValueError):
        return None
    return width, abs(height)  # a BMP that is stored from the top has a negative height


def damage(data: bytes) -> str | None:
    """Return what is wrong with an image file, None if nothing is seen.

    PNG: every chunk's length and checksum, and the end chunk. JPEG: the end marker after the picture's data. BMP, WebP
    and binary PNM: the length that the header promises. Other formats are left to their decoder.
    """
    if not data:
        return "empty file"
    if data.startswith(_PNG):
        return _png_damage(data)
    if data.startswith(_JPEG):
        return _jpeg_damage(data)
    wanted = _promised_bytes(data)
    return f"truncated: {len(data)} of {wanted} bytes" if len(data) < wanted else None


def _png_damage(data: bytes) -> str | None:
    offset = len(_PNG)
    while offset + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[offset + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"checksum of PNG chunk {kind.decode('ascii', 'replace')!r} at byte {offset} does not match"
        if kind == b"IEND":
            return None
        offset = end + 4
    return f"truncated: PNG without end chunk in {len(data)} bytes"


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each segment up to the first scan."""
    offset = len(_JPEG)
    while offset + 4 <= len(data):
        start, marker = data[offset], data[offset + 1]
        if start != 0xFF:  # noqa: PLR2004 - every marker begins so
            raise ValueError(f"no JPEG marker at byte {offset}")
        if marker == 0xFF:  # noqa: PLR2004 - a fill byte
            offset += 1
            continue
        yield marker, offset
        if marker == _JPEG_SCAN:
            return
        offset += 2 if marker in _JPEG_BARE else 2 + struct.unpack_from(">H", data, offset + 2)[0]


def _jpeg_size(data: bytes) -> tuple[int, int]:
    for marker, offset in _jpeg_segments(data):
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
    raise ValueError("no size in the JPEG's header")


def _jpeg_damage(data: bytes) -> str | None:
    try:
        scan = next((offset for marker, offset in _jpeg_segments(data) if marker == _JPEG_SCAN), None)
    except (struct.error, ValueError) as error:
        return f"damaged JPEG: {error}"
    # inside a scan a byte 0xff is followed by 0, so that the end marker cannot be picture data
    if scan is None or data.find(_JPEG_END, scan) < 0:
        return f"truncated: JPEG without end marker in {len(data)} bytes"
    return None


def _promised_bytes(data: bytes) -> int:
    if data.startswith(_BMP):
        return int(struct.unpack_from("<I", data, 2)[0]) if len(data) >= 6 else 26  # noqa: PLR2004 - the size field
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int(struct.unpack_from("<I", data, 4)[0]) + 8
    header = _PNM.match(data)
    if header and int(header[1]) >= _BITMAP:
        kind, width, height = (int(header[field]) for field in (1, 2, 3))
        if kind == _BITMAP:
            return header.end() + -(-width // 8) * height
        sample_bytes = 1 if int(header[4] or 255) < 256 else 2  # noqa: PLR2004 - what a byte holds
        return header.end() + width * height * sample_bytes * (3 if kind == _PIXMAP else 1)
    return 0
