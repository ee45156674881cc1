"""How well scores tell bad from good."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 1 << 16
FEW_FALSE_PIXELS = 0.3  # up to this share of good pixels above the threshold regions are compared (Bergmann et al.)


class BestThreshold(NamedTuple):
    """The highest F1 (harmonic mean of precision and recall), and the threshold that reaches it: bad is above."""

    f1: float
    above: float


def auroc(scores: ArrayLike, bad: ArrayLike) -> float | None:
    """Return the area under the ROC curve: how often a bad score exceeds a good one, a tie counting half.

    None where either kind is missing (Mann and Whitney, 1947).
    """
    counts = _by_level(scores, bad)
    return None if counts is None else _area(counts.good, counts.bad)


def average_precision(scores: ArrayLike, bad: ArrayLike) -> float | None:
    """Return the area under the precision-recall curve, as the mean precision over the steps of recall.

    It is no linear interpolation, which flatters (Davis and Goadrich, 2006). None where either kind is missing.
    """
    counts = _by_level(scores, bad)
    if counts is None:
        return None
    found, false = counts.above()
    precision = found / (found + false)
    return float((precision * counts.bad).sum() / counts.bad.sum())


def best_f1(scores: ArrayLike, bad: ArrayLike) -> BestThreshold | None:
    """Return the highest F1 over all thresholds, bad being the event; None where either kind is missing.

    The threshold lies halfway between the lowest score called bad and the next below it.
    """
    counts = _by_level(scores, bad)
    if counts is None:
        return None
    found, false = counts.above()
    f1 = 2 * found / (found + false + counts.bad.sum())
    best = int(f1.argmax())
    below = counts.levels[best - 1] if best else counts.levels[0] - 1.0
    return BestThreshold(float(f1[best]), float((counts.levels[best] + below) / 2))


class PixelCurves:
    """How a map tells bad pixels from good ones, over all pixels of all images, in constant memory.

    Values are counted in 65,536 equal bins between `low` and `high`; values in one bin count as ties, so the area
    under the ROC curve is wrong by at most half the share of pairs that fall into a common bin.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._scale = low, (BINS - 1) / (high - low) if high > low else 0.0
        self._good = np.zeros(BINS, np.int64)
        self._bad = np.zeros(BINS, np.int64)
        self._overlap = np.zeros(BINS)
        self._regions = 0

    def add(self, values: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
        """Count an image's map (H, W) against its mask (H, W)."""
        bins = np.clip((values - self._low) * self._scale, 0, BINS - 1).astype(np.int64)
        self._good += np.bincount(bins[~bad], minlength=BINS)
        if not bad.any():
            return
        of_bad = bins[bad]
        self._bad += np.bincount(of_bad, minlength=BINS)
        regions, labels = cv2.connectedComponents(bad.astype(np.uint8), connectivity=8)
        label = labels[bad]
        self._overlap += np.bincount(of_bad, weights=1.0 / np.bincount(label)[label], minlength=BINS)
        self._regions += regions - 1  # 0 is what lies around them

    def auroc(self) -> float | None:
        """Return the area under the ROC curve; None where no pixel, or every pixel, is bad."""
        return _area(self._good, self._bad) if self._good.any() and self._bad.any() else None

    def aupro(self) -> float | None:
        """Return the area under the mean overlap with each region, up to 0.3 false pixels, as a share of the most.

        However small, each connected region counts alike (Bergmann et al., IJCV 2021, section 5.1). None where no
        pixel, or every pixel, is bad.
        """
        if not self._regions or not self._good.any():
            return None
        false = np.concatenate([[0.0], np.cumsum(self._good[::-1]) / self._good.sum()])
        overlap = np.concatenate([[0.0], np.cumsum(self._overlap[::-1]) / self._regions])
        at_most = float(np.interp(FEW_FALSE_PIXELS, false, overlap))
        kept = false < FEW_FALSE_PIXELS
        x, y = np.append(false[kept], FEW_FALSE_PIXELS), np.append(overlap[kept], at_most)
        return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / FEW_FALSE_PIXELS)


class _Counts(NamedTuple):
    """How many good and bad ones have each score, scores rising."""

    levels: NDArray[np.float64]
    good: NDArray[np.int64]
    bad: NDArray[np.int64]

    def above(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many bad ones and how many good ones have a level or more."""
        return np.cumsum(self.bad[::-1])[::-1], np.cumsum(self.good[::-1])[::-1]


def _by_level(scores: ArrayLike, bad: ArrayLike) -> _Counts | None:
    values, truth = np.asarray(scores, np.float64), np.asarray(bad, np.bool_)
    if truth.all() or not truth.any():
        return None
    levels, level = np.unique(values, return_inverse=True)
    count = len(levels)
    return _Counts(levels, np.bincount(level[~truth], minlength=count), np.bincount(level[truth], minlength=count))


def _area(good: NDArray[np.int64], bad: NDArray[np.int64]) -> float:
    """Return the area from counts per level, levels rising."""
    good_below = np.cumsum(good) - good
    pairs = float(np.dot(bad.astype(np.float64), good_below + good / 2.0))
    return pairs / (float(good.sum()) * float(bad.sum()))
