"""Smaller copies of images, so that a page of them stays light."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import cv2
import numpy as np

from config.errors import StoreError

_QUALITY = 80
_JPEG = b"\xff\xd8"
_KEPT_BYTES = 32_000_000


def shrink(image: bytes, side_px: int) -> bytes:
    """Return a JPEG whose longer side is at most `side_px`; `image` itself if it is one as small.

    Raise StoreError if it is no image.
    """
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED) if image else None
    if pixels is None:
        raise StoreError("a stored image is none: it does not decode")
    height_px, width_px = pixels.shape[:2]
    scale = side_px / max(height_px, width_px)
    if scale < 1:
        size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    elif image.startswith(_JPEG):
        return image
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()


class Copies:
    """The copies that were made of late: many people look at the same part. Safe to use from several threads.

    A picture that retention has removed may be shown for as long as its copy is among them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0

    def of(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return the copy of this name, made now if it is not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        copy = make()
        with self._lock:
            self._bytes += len(copy) - len(self._held.pop(key, b""))
            self._held[key] = copy
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return copy
