"""Images that show what another shows: the same photograph, or the same part photographed again.

On both sides of a split such a pair flatters every detector. On magnetic tiles, photographed at six exposures each and
split at random, by ten points of AUROC; this check names 84 % of the test images that have a tile in common with
training, and of those it names 98 % have (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.images import Frame, read_image
from inference.training.progress import Progress

SIDE_PX = 64  # images are compared at this size: a shift of a hundredth of the part does not matter
DETAIL_PX = 3.0  # what is larger is light and shadow
FLOOR = 2.0  # grey values below which contrast is noise
COMMON = 8  # training images, at least, before what they have in common is the product and not the photograph
ALIKE = 0.5  # correlation of details,
STANDING_OUT = 6.0  # deviations beyond what the test image has in common with most training images,
IDENTICAL = 0.98  # or this correlation whatever others have
EQUAL = 1 - 1e-6  # correlation of the same pixels, up to rounding
_NORMAL = 1.4826  # a median absolute deviation as a standard deviation

Detail = NDArray[np.float32]


class Leak(NamedTuple):
    """A test image, the training image that is most like it, and the correlation of their details."""

    test: Path
    training: Path
    similarity: float


class Alike(NamedTuple):
    """Two of the same images, by their places, and the correlation of their details."""

    first: int
    second: int
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
        details[index] = detail(read_image(path, 1))
        progress("leaks", index + 1, total)
    details = _apart(details, len(training))
    known, asked = details[: len(training)], details[len(training) :]
    found = []
    for path, one in zip(test, asked, strict=True):
        similarity = known @ one
        nearest = int(similarity.argmax())
        most = float(similarity[nearest])
        if (len(training) >= COMMON and _stands_out(similarity)) or most > IDENTICAL:
            found.append(Leak(path, training[nearest], min(1.0, most)))
    return sorted(found, key=lambda leak: -leak.similarity)


def alike(details: Sequence[Detail]) -> list[Alike]:
    """Return the images, by their `detail`, that show what another of them shows, each beside the one most like it.

    Compared as in `leaks`. Of fewer than COMMON images only the same pixels count.
    """
    apart = _apart(np.stack(details), len(details))
    found = []
    for place in range(1, len(apart)):
        similarity = apart @ apart[place]
        nearest = int(similarity[:place].argmax())
        most = float(similarity[nearest])
        if len(apart) < COMMON:
            same = most > EQUAL
        else:
            same = most > IDENTICAL or _stands_out(np.delete(similarity, place), most)
        if same:
            found.append(Alike(nearest, place, min(1.0, most)))
    return found


def _apart(details: Detail, training: int) -> Detail:
    """Return details (N, D) less what the first `training` of them have in common, each of length 1 (or 0)."""
    if training >= COMMON:
        details = details - details[:training].mean(axis=0)
    lengths = np.linalg.norm(details, axis=1, keepdims=True)
    return np.asarray(details / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _stands_out(similarity: Detail, most: float | None = None) -> bool:
    """Tell whether the highest correlation, or `most`, is far beyond what is usual."""
    most = float(similarity.max()) if most is None else most
    middle = float(np.median(similarity))
    spread = _NORMAL * float(np.median(np.abs(similarity - middle)))
    return most > ALIKE and most - middle > STANDING_OUT * spread


def detail(frame: Frame) -> Detail:
    """Return the detail, float32 (SIDE_PX * SIDE_PX,), of a frame (H, W, C)."""
    grey = frame[:, :, 0] if frame.shape[2] == 1 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), DETAIL_PX)
    contrast = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), DETAIL_PX) + FLOOR**2)
    return np.asarray(fine / contrast, np.float32).ravel()
