"""Control charts of a share or of a mean: limits, EWMA, CUSUM and the span that they are learnt from. Pure mathematics.

Parts come in subgroups, such as those of an hour; each has a level: the share of the parts that are what is counted, or
the mean of what was measured. What chance alone makes of the level follows from the number of parts. A line scatters
more than that from hour to hour, and of thousands of parts chance explains next to nothing: limits that know no more
cry wolf. Where the subgroups of the baseline scatter beyond chance, that scatter widens the limits (Laney).

    limits     3 standard deviations around the baseline's level, for each subgroup by its size: the p-chart, and the
               chart of means (Montgomery, Introduction to Statistical Quality Control, 7th ed., 7.2.2 and 6.3.2)
    p' and X'  the standard deviation times that of the standardised levels, by the moving range of neighbours (Laney,
               Quality Engineering 2002); taken where a test of Pearson's says that they scatter beyond chance
    EWMA       weight 0.2, limits at 2.962: a false alarm every 500 points (9.2; the variance for subgroups of any size)
    CUSUM      tabular, of standardised levels, k = 0.5 and h = 5: a false alarm every 465 points (9.1.2)
    baseline   Phase I: as chosen, or the first subgroups in a row of which none lies beyond the limits they make
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from storage.query.patterns import Floats, Pattern, Rules, patterns

FEWEST = 8  # subgroups of a baseline; limits of fewer mean nothing
ENOUGH = 20  # with fewer than these the limits are preliminary: Montgomery, 6.2.1
LIMIT = 3.0  # standard deviations
WEIGHT, EWMA_LIMIT = 0.2, 2.962
SLACK, DECISION = 0.5, 5.0
FEW_EXPECTED = 5.0  # of what is counted in a subgroup: with fewer the normal distribution is a poor guess
_BASELINE = 25  # subgroups, where nobody chooses
_RANGE = 1.128379  # d2: mean range of two normal values, in standard deviations: 2 / sqrt(pi)
_SIGNIFICANCE = 1.644854  # of the standard normal distribution, for a test at 5 %

Mask = NDArray[np.bool_]


class Method(StrEnum):
    """How the limits are made."""

    P = "p"
    P_PRIME = "p'"
    X = "X"
    X_PRIME = "X'"


@dataclass(frozen=True)
class Subgroups:
    """Parts in groups, in order: how many, at least one each, the sum of their values and of the squares of these.

    Without `squares` it is a share: `sums` tells how many of the parts are what is counted.
    """

    parts: Floats
    sums: Floats
    squares: Floats | None = None

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def levels(self) -> Floats:
        """The share or the mean of each."""
        return self.sums / self.parts

    def of(self, mask: Mask) -> Subgroups:
        """Return some of the subgroups."""
        return Subgroups(self.parts[mask], self.sums[mask], None if self.squares is None else self.squares[mask])


@dataclass(frozen=True)
class Limits:
    """What the baseline tells: its level, and the standard deviation of the level of each subgroup."""

    method: Method
    middle: float
    deviations: Floats
    scatter: float  # standard deviation of the baseline's standardised levels; by chance alone it is about 1

    def standardised(self, levels: Floats) -> Floats:
        """Return how far levels lie from the middle, in standard deviations."""
        return (levels - self.middle) / self.deviations


@dataclass(frozen=True)
class Chart:
    """A chart's lines, as long as its subgroups are many."""

    limits: Limits
    low: Floats
    high: Floats
    patterns: list[tuple[Pattern, ...]]
    ewma: Floats
    ewma_low: Floats
    ewma_high: Floats
    cusum_up: Floats  # in standard deviations; DECISION is the limit
    cusum_down: Floats


def stable(subgroups: Subgroups) -> tuple[Mask, bool]:
    """Return the baseline where nobody chooses one, and whether it is stable.

    It is the first 25 subgroups in a row (or half of them all, but at least FEWEST) of which none lies beyond the
    limits that they make. Where there are none, it is all subgroups but those beyond the limits of the others.
    """
    count = len(subgroups)
    length = min(_BASELINE, max(FEWEST, count // 2), count)
    for start in range(count - length + 1):
        mask = np.zeros(count, np.bool_)
        mask[start : start + length] = True
        if not _beyond(subgroups, mask).any():
            return mask, True
    mask = np.ones(count, np.bool_)
    while True:
        kept = mask & ~_beyond(subgroups, mask)
        if kept.sum() == mask.sum() or kept.sum() < max(FEWEST, count / 2):
            return mask, False
        mask = kept


def limits(subgroups: Subgroups, baseline: Mask) -> Limits | None:
    """Return what the baseline tells; None where it tells nothing: too few subgroups, or all parts are alike."""
    learnt = subgroups.of(baseline)
    if len(learnt) < FEWEST:
        return None
    parts = float(learnt.parts.sum())
    middle = float(learnt.sums.sum()) / parts
    variance = _variance(learnt, middle)
    if variance <= 0:
        return None
    standardised = (learnt.levels - middle) / np.sqrt(variance / learnt.parts)
    scatter = float(np.mean(np.abs(np.diff(standardised)))) / _RANGE
    wide = scatter > 1 and _scatters(float(np.sum(standardised**2)), len(learnt) - 1)
    plain, prime = (Method.P, Method.P_PRIME) if subgroups.squares is None else (Method.X, Method.X_PRIME)
    chance = np.sqrt(variance / subgroups.parts)
    return Limits(prime if wide else plain, middle, chance * (scatter if wide else 1.0), scatter)


def chart(subgroups: Subgroups, baseline: Mask, rules: Rules) -> Chart | None:
    """Return the chart of all subgroups by the limits of the baseline; None where it tells none."""
    told = limits(subgroups, baseline)
    if told is None:
        return None
    levels = subgroups.levels
    standardised = told.standardised(levels)
    ewma, spread = _ewma(levels, told)
    up, down = cusum(standardised)
    share = subgroups.squares is None
    return Chart(
        limits=told,
        low=_within(told.middle - LIMIT * told.deviations, share=share),
        high=_within(told.middle + LIMIT * told.deviations, share=share),
        patterns=patterns(standardised, rules),
        ewma=ewma,
        ewma_low=_within(told.middle - EWMA_LIMIT * spread, share=share),
        ewma_high=_within(told.middle + EWMA_LIMIT * spread, share=share),
        cusum_up=up,
        cusum_down=down,
    )


def ewma(levels: Floats, deviations: Floats, middle: float, weight: float = WEIGHT) -> tuple[Floats, Floats]:
    """Return the exponentially weighted moving average, which begins at `middle`, and its standard deviation."""
    average, variance = middle, 0.0
    averages, spreads = np.empty(len(levels)), np.empty(len(levels))
    for index, (level, deviation) in enumerate(zip(levels, deviations, strict=True)):
        average = weight * level + (1 - weight) * average
        variance = weight**2 * deviation**2 + (1 - weight) ** 2 * variance
        averages[index], spreads[index] = average, math.sqrt(variance)
    return averages, spreads


def cusum(standardised: Floats, slack: float = SLACK) -> tuple[Floats, Floats]:
    """Return the sums of what lies further than `slack` above the middle, and below: both are at least 0."""
    up = down = 0.0
    ups, downs = np.empty(len(standardised)), np.empty(len(standardised))
    for index, deviation in enumerate(standardised):
        up, down = max(0.0, up + deviation - slack), max(0.0, down - deviation - slack)
        ups[index], downs[index] = up, down
    return ups, downs


def _ewma(levels: Floats, told: Limits) -> tuple[Floats, Floats]:
    return ewma(levels, told.deviations, told.middle)


def _variance(learnt: Subgroups, middle: float) -> float:
    """Return the variance of one part: the binomial one of a share, else that within the subgroups."""
    if learnt.squares is None:
        return middle * (1 - middle)
    freedom = float(learnt.parts.sum()) - len(learnt)
    within = float(np.sum(np.maximum(learnt.squares - learnt.sums**2 / learnt.parts, 0.0)))
    # of values that differ by rounding alone nothing can be said
    return within / freedom if freedom > 0 and within > 1e-12 * float(np.sum(learnt.squares)) else 0.0


def _beyond(subgroups: Subgroups, mask: Mask) -> Mask:
    """Return which subgroups of a baseline lie beyond its limits."""
    told = limits(subgroups, mask)
    if told is None:
        return np.zeros(len(subgroups), np.bool_)
    return np.asarray(mask & (np.abs(told.standardised(subgroups.levels)) > LIMIT), np.bool_)


def _scatters(statistic: float, freedom: int) -> bool:
    """Tell whether Pearson's statistic is larger than chance makes it once in 20 times.

    By the cube root's normal distribution (Wilson and Hilferty, PNAS 1931).
    """
    ninth = 2 / (9 * freedom)
    return (math.cbrt(statistic / freedom) - (1 - ninth)) / math.sqrt(ninth) > _SIGNIFICANCE


def _within(lines: Floats, *, share: bool) -> Floats:
    return np.clip(lines, 0.0, 1.0) if share else lines
