"""Which of several detectors to take: what no other beats, what stands out above the trend, and what is within limits.

Everything is computed from figures that were measured (trial.py): pure, and the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from inference.training.metrics import auroc

DRAWS = 500
ONE_IN = 40  # a draw in so many is the lower end of a 95 % interval
TREND_POINTS = 3  # fewer than these lie on a line anyway


class Limits(BaseModel):
    """What a detector may cost, and the least side in pixels at which it must look; None does not limit.

    A detector that looks at every pixel of the camera has no such side, and no limit on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_ms: float | None = Field(default=None, gt=0)
    max_mb: float | None = Field(default=None, gt=0)
    max_parameters: int | None = Field(default=None, gt=0)
    min_side_px: int | None = Field(default=None, gt=0)

    def too_coarse(self, side_px: int | None) -> str | None:
        """Return why a detector that resamples frames to this side is out; None where it is not."""
        if self.min_side_px is None or side_px is None or side_px >= self.min_side_px:
            return None
        return f"looks at {side_px} px, less than {self.min_side_px}"

    def too_dear(self, ms: float, mb: float, parameters: int) -> str | None:
        """Return why a detector of this cost is out; None where it is not."""
        if self.max_ms is not None and ms > self.max_ms:
            return f"takes {ms:.1f} ms, more than {self.max_ms:g}"
        if self.max_mb is not None and mb > self.max_mb:
            return f"takes {mb:.1f} MB, more than {self.max_mb:g}"
        if self.max_parameters is not None and parameters > self.max_parameters:
            return f"has {parameters} parameters, more than {self.max_parameters}"
        return None


class Point(NamedTuple):
    """How well a candidate tells bad from good, and what that costs in some unit, more than 0."""

    name: str
    accuracy: float
    cost: float


class Trend(NamedTuple):
    """Accuracy as a straight line over the decimal logarithm of cost."""

    intercept: float
    slope: float

    def at(self, cost: float) -> float:
        """Return the accuracy that the trend has at this cost."""
        return self.intercept + self.slope * math.log10(cost)

    def above(self, point: Point) -> float:
        """Return how far a point lies above the trend; below it, a negative number."""
        return point.accuracy - self.at(point.cost)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats, cheapest first.

    One beats another that is as good or better in both, accuracy and cost, and better in one. Equal points beat
    neither: both stay.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy or point[1:] == kept[-1][1:]:
            kept.append(point)
    return kept


def trend(points: Sequence[Point]) -> Trend | None:
    """Return the least-squares line; None for fewer than three points, or where all cost the same."""
    if len(points) < TREND_POINTS:
        return None
    logs = [math.log10(point.cost) for point in points]
    middle, height = math.fsum(logs) / len(logs), math.fsum(point.accuracy for point in points) / len(points)
    spread = math.fsum((log - middle) ** 2 for log in logs)
    if math.isclose(spread, 0.0, abs_tol=1e-12):
        return None
    slope = math.fsum((log - middle) * (point.accuracy - height) for log, point in zip(logs, points, strict=True))
    return Trend(height - slope / spread * middle, slope / spread)


class TradeOff(NamedTuple):
    """All candidates by one kind of cost: those that none beats, the trend, and who is farthest above it."""

    points: tuple[Point, ...]
    pareto: tuple[str, ...]
    trend: Trend | None
    farthest_above: str | None


def trade_off(points: Sequence[Point]) -> TradeOff:
    """Return what there is to choose from; nobody is above a trend that cannot be fitted."""
    line = trend(points)
    best = max(points, key=line.above).name if line else None
    return TradeOff(tuple(points), tuple(point.name for point in pareto(points)), line, best)


def choose(by_size: TradeOff, by_time: TradeOff) -> str:
    """Return the candidate that is farthest above both trends together, among those that none beats in one of them.

    Where there is no trend the most accurate is taken, of equals the quickest. Both must hold the same candidates, one
    at least.
    """
    quickest = {point.name: point.cost for point in by_time.points}
    contenders = {*by_size.pareto, *by_time.pareto}
    above = dict.fromkeys(contenders, 0.0)
    accuracy: dict[str, float] = {}
    for found in (by_size, by_time):
        for point in found.points:
            if point.name in contenders:
                accuracy[point.name] = point.accuracy
                above[point.name] += found.trend.above(point) if found.trend else 0.0
    return max(contenders, key=lambda name: (above[name], accuracy[name], -quickest[name], name))


def told_apart(best: ArrayLike, other: ArrayLike, bad: ArrayLike) -> bool:
    """Tell whether the same images (N,), drawn again and again, show `best` above `other` but for 2.5 % of the draws.

    The percentile bootstrap of a paired difference (Efron and Tibshirani 1993, chapter 13), good and bad images drawn
    apart: what both find hard counts for neither. Both kinds of image must be there.
    """
    scores, truth = (np.asarray(best), np.asarray(other)), np.asarray(bad, np.bool_)
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(DRAWS):
        drawn = np.concatenate(
            [rng.choice(kind, len(kind)) for kind in (np.flatnonzero(~truth), np.flatnonzero(truth))]
        )
        ahead, behind = (auroc(one[drawn], truth[drawn]) or 0.0 for one in scores)
        reached += behind >= ahead
    return reached * ONE_IN < DRAWS
