"""Images that people bring: kept with every pixel, or refused by name before they cost anything."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from config.errors import InputError
from storage import uploads

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (24, 32, 3), np.uint8)
GREY = RNG.integers(0, 256, (24, 32), np.uint8)


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def decoded(content: bytes) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return np.asarray(found)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["colour", "grey"])
def test_every_pixel_is_kept(pixels: np.ndarray, suffix: str) -> None:
    taken = uploads.take(encoded(pixels, suffix), "part.png")
    assert (decoded(taken.content) == pixels).all()
    shape = (24, 32, 1 if pixels.ndim == 2 else 3)
    assert (taken.height_px, taken.width_px, taken.channels) == shape == uploads.png_shape(taken.content)
    again = uploads.take(encoded(pixels), "another name")
    assert again.name == taken.name, "the same pixels are the same image"


def test_jpeg_is_taken_as_it_decodes() -> None:
    content = encoded(COLOUR, ".jpg")
    assert (decoded(uploads.take(content, "a.jpg").content) == decoded(content)).all()


def bomb(width_px: int, height_px: int) -> bytes:
    """Return a PNG whose header claims any size."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(width_px: int, height_px: int) -> bytes:
    """Return a TIFF whose first directory claims any size."""
    tags = struct.pack("<HHHII", 2, 256, 4, 1, width_px) + struct.pack("<HHII", 257, 4, 1, height_px)
    return b"II*\x00" + struct.pack("<I", 8) + tags


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is no PNG, JPEG or TIFF image"),
        (b"GIF89a" + bytes(100), "is no PNG, JPEG or TIFF image"),
        (b"<svg onload=alert(1)>", "is no PNG, JPEG or TIFF image"),
        (encoded(COLOUR)[:-30], "truncated"),
        (encoded(COLOUR)[:200] + b"\xff" + encoded(COLOUR)[201:], "checksum of PNG chunk"),
        (encoded(COLOUR, ".jpg")[:-40], "truncated"),
        (encoded(COLOUR, ".tiff")[:40], "TIFF image"),
        (bomb(60_000, 60_000), "60000 x 60000 pixels"),
        (bomb(0, 10), "0 x 10 pixels"),
        (bomb(32, 24), "does not decode"),
        (tiff(2**31, 2**31), "pixels: 1 to 50 million"),
        (encoded(COLOUR.astype(np.uint16) * 200), "has 16 bits a value"),
        (encoded(np.dstack([COLOUR, GREY])), "has 4 channels"),
    ],
    ids=[
        "empty", "gif", "svg", "cut", "flipped", "jpeg-cut", "tiff-cut", "bomb", "no-size", "no-pixels", "tiff-bomb",
        "deep", "transparent",
    ],
)  # fmt: skip
def test_what_is_no_image_of_a_camera_is_refused_by_name(content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what) as refused:
        uploads.take(content, "odd one.png")
    assert "'odd one.png'" in str(refused.value)


def test_what_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LIMIT_BYTES", 100)
    with pytest.raises(InputError, match="bytes are too many"):
        uploads.take(encoded(COLOUR), "a.png")


def test_random_bytes_never_do_more_than_be_refused() -> None:
    whole = [encoded(COLOUR), encoded(COLOUR, ".jpg"), encoded(COLOUR, ".tiff")]
    for number in range(300):
        content = bytearray(whole[number % 3])
        for place in RNG.integers(0, len(content), 6):
            content[place] = RNG.integers(0, 256)
        try:
            uploads.take(bytes(content), "fuzzed")
        except InputError as refused:
            assert "'fuzzed'" in str(refused)  # noqa: PT017 - taken is as good
