"""How well scores tell bad from good."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 1 << 16


def auroc(scores: ArrayLike, bad: ArrayLike) -> float | None:
    """Return the area under the ROC curve: how often a bad score exceeds a good one, a tie counting half.

    None where either kind is missing (Mann and Whitney, 1947).
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(bad, np.bool_)
    if truth.all() or not truth.any():
        return None
    levels, level = np.unique(values, return_inverse=True)
    return _area(np.bincount(level[~truth], minlength=len(levels)), np.bincount(level[truth], minlength=len(levels)))


class PixelRoc:
    """The ROC curve over all pixels of all images, in constant memory.

    Values are counted in 65,536 equal bins between `low` and `high`; values in one bin count as ties, so the area is
    wrong by at most half the share of pairs that fall into a common bin.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._scale = low, (BINS - 1) / (high - low) if high > low else 0.0
        self._good = np.zeros(BINS, np.int64)
        self._bad = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
        """Count an image's map (H, W) against its mask (H, W)."""
        bins = np.clip((values - self._low) * self._scale, 0, BINS - 1).astype(np.int64)
        self._good += np.bincount(bins[~bad], minlength=BINS)
        self._bad += np.bincount(bins[bad], minlength=BINS)

    def area(self) -> float | None:
        """Return the area under the curve; None where no pixel, or every pixel, is bad."""
        return _area(self._good, self._bad) if self._good.any() and self._bad.any() else None


def _area(good: NDArray[np.int64], bad: NDArray[np.int64]) -> float:
    """Return the area from counts per level, levels rising."""
    good_below = np.cumsum(good) - good
    pairs = float(np.dot(bad.astype(np.float64), good_below + good / 2.0))
    return pairs / (float(good.sum()) * float(bad.sum()))
