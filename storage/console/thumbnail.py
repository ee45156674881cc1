"""Smaller copies of images, so that a page of them stays light."""

from __future__ import annotations

import cv2
import numpy as np

from config.errors import StoreError

_QUALITY = 80


def shrink(jpeg: bytes, side_px: int) -> bytes:
    """Return a JPEG whose longer side is at most `side_px`; raise StoreError if `jpeg` is none."""
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED) if jpeg else None
    if pixels is None:
        raise StoreError("a stored image is no JPEG")
    height_px, width_px = pixels.shape[:2]
    scale = side_px / max(height_px, width_px)
    if scale >= 1:
        return jpeg
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    _, encoded = cv2.imencode(
        ".jpg", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return encoded.tobytes()
