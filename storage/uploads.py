"""Images that people bring: known by their bytes, measured before they are decoded, kept as PNG with every pixel."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from config import imagefile
from config.errors import InputError

LIMIT_BYTES = 64_000_000
LIMIT_PX = 50_000_000  # one decoded takes three bytes of each
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = {b"II*\x00": "<", b"MM\x00*": ">"}
_WIDTH_TAG, _HEIGHT_TAG = 256, 257  # TIFF 6.0, section 2 and 3
_SHORT = 3
_MOST_TAGS = 200
_COLOURS = 3


class Upload(NamedTuple):
    """An image as it is kept: PNG, its size and colours, and a name that says what it holds."""

    name: str
    content: bytes
    height_px: int
    width_px: int
    channels: int


def take(content: bytes, called: str) -> Upload:
    """Return an uploaded PNG, JPEG or TIFF of 8 bits, grey or colour; raise InputError that names it and its fault."""
    told = f"{called!r:.100}"
    if len(content) > LIMIT_BYTES:
        raise InputError(f"{told}: {len(content)} bytes are too many: {LIMIT_BYTES // 10**6} MB at most")
    size = _size_px(content)
    if size is None:
        raise InputError(f"{told}: is no PNG, JPEG or TIFF image ({len(content)} bytes)")
    width_px, height_px = size
    if not (width_px > 0 and height_px > 0 and width_px * height_px <= LIMIT_PX):
        raise InputError(f"{told}: {width_px} x {height_px} pixels: 1 to {LIMIT_PX // 10**6} million may be")
    if fault := imagefile.damage(content):
        raise InputError(f"{told}: {fault}")
    pixels = _decoded(content)
    if pixels is None:
        raise InputError(f"{told}: does not decode: the file is damaged, or of a kind that is not known")
    if pixels.dtype != np.uint8:
        raise InputError(f"{told}: has {pixels.dtype.itemsize * 8} bits a value: cameras give 8")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]  # noqa: PLR2004 - (H, W)
    if channels not in {1, _COLOURS}:
        raise InputError(f"{told}: has {channels} channels: grey or three colours may be, without transparency")
    done, png = cv2.imencode(".png", pixels)
    if not done:
        raise InputError(f"{told}: cannot be kept as PNG")
    kept = png.tobytes()
    name = f"upload-{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}.png"
    return Upload(name, kept, pixels.shape[0], pixels.shape[1], channels)


def png_shape(content: bytes) -> tuple[int, int, int]:
    """Return height, width and channels of a PNG of ours by its header; raise InputError for what is none."""
    try:
        width_px, height_px, bits, colour = struct.unpack_from(">IIBB", content, 16)
    except struct.error as error:
        raise InputError("not a PNG image") from error
    if not content.startswith(_PNG) or bits != 8:  # noqa: PLR2004 - as cameras give them
        raise InputError("not a PNG image of 8 bits")
    return height_px, width_px, _COLOURS if colour & 2 else 1


def _size_px(content: bytes) -> tuple[int, int] | None:
    if content.startswith((_PNG, _JPEG)):
        return imagefile.size_of(content)
    order = _TIFF.get(content[:4])
    try:
        return _tiff_size(content, order) if order else None
    except struct.error:
        return None


def _tiff_size(content: bytes, order: str) -> tuple[int, int] | None:
    """Return width and height by the first directory of a TIFF file."""
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    found = {}
    for number in range(min(count, _MOST_TAGS)):
        at = place + 2 + 12 * number
        tag, kind = struct.unpack_from(f"{order}HH", content, at)
        if tag in {_WIDTH_TAG, _HEIGHT_TAG}:
            (found[tag],) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", content, at + 8)
    return (found[_WIDTH_TAG], found[_HEIGHT_TAG]) if len(found) == 2 else None  # noqa: PLR2004 - both tags


def _decoded(content: bytes) -> NDArray[np.uint8 | np.uint16] | None:
    try:
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # some damaged images raise, others return None
        return None
    return found  # type: ignore[return-value]  # whatever it holds: the caller looks
