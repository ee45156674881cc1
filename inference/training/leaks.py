"""Test images that show what training images show: the same photograph, or the same part photographed again.

Such a pair flatters every detector. On magnetic tiles, photographed at six exposures each and split at random, by ten
points of AUROC; this check names 84 % of the test images that have a tile in common with training, and of those it
names 98 % have (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.images import read_image
from inference.training.progress import Progress

SIDE_PX = 64  # images are compared at this size: a shift of a hundredth of the part does not matter
DETAIL_PX = 3.0  # what is larger is light and shadow
FLOOR = 2.0  # grey values below which contrast is noise
COMMON = 8  # training images, at least, before what they have in common is the product and not the photograph
ALIKE = 0.5  # correlation of details,
STANDING_OUT = 6.0  # deviations beyond what the test image has in common with most training images,
IDENTICAL = 0.98  # or this correlation whatever others have
_NORMAL = 1.4826  # a median absolute deviation as a standard deviation


class Leak(NamedTuple):
    """A test image, the training image that is most like it, and the correlation of their details."""

    test: Path
    training: Path
    similarity: float


def leaks(training: Sequence[Path], test: Sequence[Path], progress: Progress) -> list[Leak]:
    """Return the test images that show what a training image shows, the most alike first.

    Compared is the detail that an image does not share with the product at large, at any exposure: grey values less
    their surroundings, over the local contrast, less the mean training image. Raise InputError for a damaged image.
    """
    if not training or not test:
        return []
    total = len(training) + len(test)
    details = np.empty((total, SIDE_PX * SIDE_PX), np.float32)
    for index, path in enumerate((*training, *test)):
        details[index] = _detail(path)
        progress("leaks", index + 1, total)
    if len(training) >= COMMON:
        details -= details[: len(training)].mean(axis=0)
    details /= np.maximum(np.linalg.norm(details, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    known, asked = details[: len(training)], details[len(training) :]
    found = []
    for path, detail in zip(test, asked, strict=True):
        similarity = known @ detail
        nearest = int(similarity.argmax())
        middle = float(np.median(similarity))
        spread = _NORMAL * float(np.median(np.abs(similarity - middle)))
        most = float(similarity[nearest])
        stands_out = len(training) >= COMMON and most > ALIKE and most - middle > STANDING_OUT * spread
        if stands_out or most > IDENTICAL:
            found.append(Leak(path, training[nearest], min(1.0, most)))
    return sorted(found, key=lambda leak: -leak.similarity)


def _detail(path: Path) -> NDArray[np.float32]:
    """Return an image's detail, (SIDE_PX * SIDE_PX,)."""
    grey = read_image(path, 1)[:, :, 0]
    small = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = small - cv2.GaussianBlur(small, (0, 0), DETAIL_PX)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), DETAIL_PX) + FLOOR**2)
    return np.asarray(detail / contrast, np.float32).ravel()
