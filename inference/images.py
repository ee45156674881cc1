"""Images from files, decoded as `config/dataset.py` says, with damage told by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from config import imagefile
from config.errors import InputError

Channels = Literal[1, 3]
Frame = NDArray[np.uint8]


def read_image(path: Path, channels: Channels) -> Frame:
    """Return uint8 (H, W, C), BGR where C is 3; raise InputError for a file that is missing, damaged or truncated."""
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE  # noqa: PLR2004 - the other of two literals
    frame = _decode(path, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return frame.reshape(frame.shape[0], frame.shape[1], channels)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return (H, W), true where the mask is brighter than half."""
    return _decode(path, cv2.IMREAD_GRAYSCALE) > 127  # noqa: PLR2004 - half of a byte


def stored_channels(path: Path) -> Channels:
    """Return 1 where the file holds a grey image, 3 where it holds colours."""
    return 1 if _decode(path, cv2.IMREAD_UNCHANGED).ndim == 2 else 3  # noqa: PLR2004 - (H, W)


def encode_png(frame: Frame) -> bytes:
    """Return a lossless PNG of uint8 (H, W, C)."""
    done, data = cv2.imencode(".png", frame)
    if not done:
        raise InputError(f"an image of shape {frame.shape} and type {frame.dtype} cannot be stored as PNG")
    return data.tobytes()


def decode_png(data: bytes, channels: Channels) -> Frame:
    """Return the uint8 (H, W, C) that `encode_png` was given; raise InputError where it is none."""
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE  # noqa: PLR2004 - the other of two literals
    frame = _imdecode(data, flag)
    if frame is None:
        raise InputError("not a PNG image")
    return frame.reshape(frame.shape[0], frame.shape[1], channels)


def _decode(path: Path, flag: int) -> Frame:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if fault := imagefile.damage(data):
        raise InputError(f"{path}: {fault}: copy it again or remove it")
    frame = _imdecode(data, flag)
    if frame is None:
        raise InputError(f"{path}: not an image that can be decoded ({len(data)} bytes): replace or remove it")
    return frame


def _imdecode(data: bytes, flag: int) -> Frame | None:
    if not data:
        return None
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:  # some damaged files raise, others return None
        return None
    return None if frame is None or frame.dtype != np.uint8 else np.ascontiguousarray(frame)
