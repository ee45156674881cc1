"""Smaller copies of images, so that a page of them stays light."""

from __future__ import annotations

import cv2
import numpy as np

from config.errors import StoreError

_QUALITY = 80


def shrink(image: bytes, side_px: int) -> bytes:
    """Return a JPEG whose longer side is at most `side_px`, or `image` itself if it is as small.

    Raise StoreError if it is no image.
    """
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED) if image else None
    if pixels is None:
        raise StoreError("a stored image is none: it does not decode")
    height_px, width_px = pixels.shape[:2]
    scale = side_px / max(height_px, width_px)
    if scale >= 1:
        return image
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    _, encoded = cv2.imencode(
        ".jpg", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return encoded.tobytes()
