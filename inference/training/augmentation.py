"""Copies of an image as the same part might have looked a little later."""

from __future__ import annotations

import cv2
import numpy as np

from inference.images import Frame
from inference.training.options import Augmentation

FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}  # cv2's axes: 1 swaps left and right


def augmented(frame: Frame, how: Augmentation, seed: int) -> list[Frame]:
    """Return `how.copies` copies of uint8 (H, W, C), each shifted, turned, lit and flipped by chance; BGR stays BGR.

    What comes in at an edge repeats the edge. The same frame and seed give the same copies.
    """
    random = np.random.default_rng(seed)
    return [_copy(frame, how, random) for _ in range(how.copies)]


def _copy(frame: Frame, how: Augmentation, random: np.random.Generator) -> Frame:
    height_px, width_px, channels = frame.shape
    right_px, down_px = random.integers(-how.shift_px, how.shift_px, size=2, endpoint=True).tolist()
    turn_deg = float(random.uniform(-how.rotate_deg, how.rotate_deg))
    light = 1 + float(random.uniform(-how.brightness_percent, how.brightness_percent)) / 100
    flips = [axis for axis in FLIPS.get(how.flip, ()) if random.random() < 0.5]  # noqa: PLR2004 - as often as not
    change = cv2.getRotationMatrix2D(((width_px - 1) / 2, (height_px - 1) / 2), turn_deg, 1.0)
    change[:, 2] += (right_px, down_px)
    copy = cv2.warpAffine(frame, change, (width_px, height_px), borderMode=cv2.BORDER_REPLICATE)
    copy = cv2.convertScaleAbs(copy, alpha=light)
    for axis in flips:
        copy = cv2.flip(copy, axis)
    return np.asarray(copy, np.uint8).reshape(height_px, width_px, channels)
