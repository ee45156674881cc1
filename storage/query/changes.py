"""When a rate or a level changed: change points of a series, found, tested and bounded. Pure mathematics.

A series is summed over bins in the order of time: a bin may be one part or all the parts of an hour. A division of the
series in two is judged by its standardised difference z: the signed root of the binomial likelihood ratio for rates,
the difference of the two means over its standard error for levels. Single parts' levels are compared by their ranks, so
that no outlier makes a change (the rank-sum statistic: Pettitt, Applied Statistics 1979). Ranks part at the middle one
of all: the place is found by the likelihood of the two levels instead (`placed`).

    significance   of the largest |z| over all divisions: James, James and Siegmund, Biometrika 1987; the discrete
                   steps by the function nu of Siegmund and Yakir, The Statistics of Gene Mapping, 2007
    several        binary segmentation over seeded intervals, so that an incident that came and went is seen, too:
                   Kovacs, Buehlmann, Li and Munk, Biometrika 2023; their tests share the level that is spent
    scatter        of bins beyond chance, as lines have it from hour to hour, counts as chance, too: a variance between
                   bins (DerSimonian and Laird, Controlled Clinical Trials 1986) from neighbours' differences, by which
                   the parts of a bin count as fewer; that it is an estimate, by Wallace, Biometrika 1959
    when           the divisions that the likelihood hardly tells from the best: Siegmund, Annals of Statistics 1988
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIGNIFICANCE = 0.01  # how often a series without a change may be said to have one
CONFIDENCE = 0.95  # of every interval
FEWEST = 5  # parts on either side of a change
_QUANTILE = 1.959964  # of the standard normal distribution, for CONFIDENCE
_LIKELIHOOD_DROP = -2 * math.log(1 - math.sqrt(CONFIDENCE))  # Siegmund 1988: P(drop > c) = 1 - (1 - exp(-c / 2))^2
_LEVELS = 5  # of seeded intervals: the shortest ones are a sixteenth of the series
_CALM = 0.75  # share of the differences, the smallest ones, that tell the scatter: changes are among the others
_CALM_MEAN = 0.368490  # of chi squared with one degree of freedom below its quantile of _CALM
_CALM_EFFICIENCY = 0.5  # degrees of freedom for each difference
_GROUPS = 128  # of single parts, whose scatter is looked at; at least half as many
_LEAST_GROUP = 20  # parts in such a group
_PASSES = 3  # of placing a change and estimating what is before and after it
_MEDIAN_DEVIATION = 1.482602  # standard deviations, where values are normal
_OUTLIER = 4.0  # standard deviations beyond either level: a score further away says no more than one there


class Change(NamedTuple):
    """A change between two bins: `at` is the first bin after it; it lies in `earliest`..`latest` by CONFIDENCE."""

    at: int
    earliest: int
    latest: int
    p_value: float


class Estimate(NamedTuple):
    """A rate or a level with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """What was counted or measured, in bins: parts in each, sum over them, and the variance of one part.

    `variance` None says that the parts are yes or no (`sums` of them yes): their variance follows from their rate.
    `weights` (at most 1) is how much a part of each bin counts, for the bins scatter more than chance makes them;
    `freedom` is how many degrees of freedom that was estimated with, infinite where they do not.
    """

    parts: Floats
    sums: Floats
    variance: float | None
    weights: Floats
    freedom: float = math.inf

    def __len__(self) -> int:
        return len(self.parts)

    def part(self, start: int, stop: int) -> Series:
        """Return some of the bins."""
        cut = slice(start, stop)
        return Series(self.parts[cut], self.sums[cut], self.variance, self.weights[cut], self.freedom)


def rates(parts: Floats, events: Floats) -> Series:
    """Return the series of bins with `events` among `parts`."""
    return _weighted(np.asarray(parts, np.float64), np.asarray(events, np.float64), None)


def levels(parts: Floats, sums: Floats, squares: Floats) -> Series:
    """Return the series of bins of measured values: how many, their sum and the sum of their squares."""
    parts, sums, squares = (np.asarray(one, np.float64) for one in (parts, sums, squares))
    within = float(np.sum(np.maximum(squares - sums**2 / parts, 0.0)))
    freedom = float(np.sum(parts)) - len(parts)
    return _weighted(parts, sums, within / freedom if freedom > 0 else 0.0)


def ranked(values: Floats) -> Series:
    """Return the series of single parts' values as ranks; equal values share theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return _weighted(np.ones(len(ranks)), ranks, float(np.var(ranks, ddof=1)) if len(ranks) > 1 else 0.0)


def varies(series: Series) -> bool:
    """Tell whether there is anything that could have changed."""
    if series.variance is None:
        events = float(series.sums.sum())
        return 0 < events < float(series.parts.sum())
    return series.variance > 0 or bool(np.ptp(series.sums / series.parts) > 0)


def changes(series: Series, significance: float = SIGNIFICANCE) -> list[Change]:
    """Return the changes of a series, in order.

    Where nothing changed, something is found with a probability of at most about `significance`, whatever the series'
    length; up to three times as often where it is a rate that scatters by a third from bin to bin. Each change is
    placed and tested among its neighbours once all are known.
    """
    if len(series) < 2 or not varies(series):  # noqa: PLR2004 - a change divides
        return []
    places = sorted(_divided(series, 0, len(series), significance))
    found: list[Change] = []
    while places:
        bounds = [0, *places, len(series)]
        found = []
        for start, stop in zip(bounds, bounds[2:], strict=False):
            scan = _scan(series.part(start, stop))
            found.append(_change(scan, start))
        weakest = max(found, key=lambda change: change.p_value)
        if weakest.p_value <= significance:
            break
        del places[found.index(weakest)]
        found = []
    return found


def placed(values: Floats, found: Sequence[Change]) -> list[Change]:
    """Return the changes of `ranked(values)`, each put where the levels before and after it have it most likely.

    Levels are means, for those of skewed values balance, too, as medians do not; of values that are held within
    outliers' bounds, which are medians and median deviations. Where both means are alike the place stays.
    """
    bounds = [0, *(change.at for change in found), len(values)]
    moved = []
    for change, start, stop in zip(found, bounds, bounds[2:], strict=False):
        place, around = change, values[start:stop]
        for _ in range(_PASSES):
            inside = _held(around, place.at - start)
            before, after = inside[: place.at - start], inside[place.at - start :]
            variance = float(np.var(np.concatenate([before - before.mean(), after - after.mean()])))
            if before.mean() == after.mean():
                break
            places = place_level(inside, float(before.mean()), float(after.mean()), variance)
            at, earliest, latest = (min(max(index, FEWEST), len(around) - FEWEST) for index in places)
            place = Change(start + at, start + earliest, start + latest, change.p_value)
        moved.append(place)
    return moved


def _held(values: Floats, at: int) -> Floats:
    """Return values with outliers put at their bounds, some deviations beyond the medians before and after `at`."""
    middles = [float(np.median(side)) for side in (values[:at], values[at:])]
    residuals = np.concatenate([values[:at] - middles[0], values[at:] - middles[1]])
    margin = _OUTLIER * _MEDIAN_DEVIATION * float(np.median(np.abs(residuals)))
    return np.clip(values, min(middles) - margin, max(middles) + margin) if margin > 0 else values


def joined(series: Series, found: Sequence[Change]) -> list[Change]:
    """Return changes with those made one that are a bin apart, where that bin is between what is around them.

    One change in the middle of a bin makes it so; the bin is no level of its own.
    """
    means = series.sums / series.parts
    one: list[Change] = []
    for change in found:
        middle = change.at - 1
        apart = bool(one) and one[-1].at == middle
        if apart and (means[middle] - means[middle - 1]) * (means[change.at] - means[middle]) > 0:
            last = one.pop()
            stronger = min(last, change, key=lambda each: each.p_value)
            one.append(Change(stronger.at, last.earliest, change.latest, stronger.p_value))
        else:
            one.append(change)
    return one


def place_rate(events: Floats, before: float, after: float, weight: float = 1.0) -> tuple[int, int, int]:
    """Return where yes or no changed from one rate to another: first after, earliest, latest, as indices of parts."""
    low, high = 1e-9, 1 - 1e-9
    before, after = (min(max(rate, low), high) for rate in (before, after))
    yes, no = math.log(before / after), math.log((1 - before) / (1 - after))
    return _place(np.where(np.asarray(events) > 0, yes, no), weight)


def place_level(
    values: Floats, before: float, after: float, variance: float, weight: float = 1.0
) -> tuple[int, int, int]:
    """Return where values changed from one level to another: first after, earliest, latest, as indices of parts."""
    margin = _OUTLIER * math.sqrt(variance)
    inside = np.clip(values, min(before, after) - margin, max(before, after) + margin)
    scale = (before - after) / variance if variance > 0 else before - after
    return _place((inside - (before + after) / 2) * scale, weight)


def rate_estimate(parts: float, events: float, weight: float = 1.0) -> Estimate:
    """Return a rate with its score interval (Wilson, JASA 1927)."""
    counted, squared = parts * weight, _QUANTILE**2
    rate = events / parts
    middle = (rate + squared / (2 * counted)) / (1 + squared / counted)
    reach = _QUANTILE / (1 + squared / counted) * math.sqrt(rate * (1 - rate) / counted + squared / (4 * counted**2))
    return Estimate(rate, min(rate, max(0.0, middle - reach)), max(rate, min(1.0, middle + reach)))


def level_estimate(parts: float, total: float, variance: float, weight: float = 1.0) -> Estimate:
    """Return a mean with its interval."""
    reach = _QUANTILE * math.sqrt(variance / (parts * weight))
    return Estimate(total / parts, total / parts - reach, total / parts + reach)


class _Scan(NamedTuple):
    """All divisions of a series in two, from `first` on."""

    first: int
    z: Floats
    p_value: float  # of the largest |z|

    @property
    def best(self) -> int:
        return int(np.argmax(np.abs(self.z)))


def _scan(series: Series) -> _Scan:
    """Compare what is before and after every bin's begin."""
    parts, sums = series.parts * series.weights, series.sums * series.weights
    before, total = np.cumsum(parts)[:-1], float(parts.sum())
    counted = np.cumsum(series.parts)[:-1]
    allowed = np.flatnonzero((counted >= FEWEST) & (float(series.parts.sum()) - counted >= FEWEST))
    if not len(allowed):
        return _Scan(1, np.zeros(1), 1.0)
    divisions = slice(int(allowed[0]), int(allowed[-1]) + 1)
    before, sums_before = before[divisions], np.cumsum(sums)[divisions]
    if series.variance is None:
        z = _rate_difference(before, sums_before, total, float(sums.sum()))
    else:
        z = _level_difference(before, sums_before, total, float(sums.sum()), series.variance)
    if math.isfinite(series.freedom):  # as if the variance were known: Wallace 1959
        z = np.sign(z) * np.sqrt(series.freedom * np.log1p(z**2 / series.freedom))
    return _Scan(divisions.start + 1, z, _p_value(float(np.max(np.abs(z))), before / total))


def _rate_difference(parts: Floats, events: Floats, all_parts: float, all_events: float) -> Floats:
    def likelihood(yes: Floats, count: Floats) -> Floats:
        no = count - yes
        rate = np.clip(yes / count, 1e-300, 1.0)
        return yes * np.log(rate) + no * np.log(np.clip(no / count, 1e-300, 1.0))

    after, events_after = all_parts - parts, all_events - events
    together = likelihood(np.array([all_events]), np.array([all_parts]))[0]
    ratio = 2 * (likelihood(events, parts) + likelihood(events_after, after) - together)
    signs = np.sign(events_after / after - events / parts)
    return np.asarray(signs * np.sqrt(np.maximum(ratio, 0.0)), np.float64)


def _level_difference(parts: Floats, sums: Floats, all_parts: float, total: float, variance: float) -> Floats:
    after = all_parts - parts
    difference = (total - sums) / after - sums / parts
    if variance <= 0:  # every bin is of one value: whatever differs, differs for certain
        return np.where(np.abs(difference) > 0, np.sign(difference) * np.sqrt(all_parts), 0.0)
    return np.asarray(difference / np.sqrt(variance * (1 / parts + 1 / after)), np.float64)


def _p_value(peak: float, shares: Floats) -> float:
    """Return how often |z| gets as high as `peak` somewhere, `shares` of the parts being before the divisions."""
    clock = np.log(shares / (1 - shares)) / 2  # on which z is stationary
    steps = np.diff(clock)
    density = math.exp(-(peak**2) / 2) / math.sqrt(2 * math.pi)
    crossings = 2 * peak * density * float(np.sum(steps * _nu(peak * np.sqrt(2 * steps))))
    return min(1.0, math.erfc(peak / math.sqrt(2)) + crossings)


def _nu(x: Floats) -> Floats:
    """Return how much of a continuous path's crossings a path of such steps has."""
    half = np.maximum(x, 1e-9) / 2
    density = np.exp(-(half**2) / 2) / math.sqrt(2 * math.pi)
    above = _normal_cdf(half) - 0.5
    return np.asarray(np.minimum(1.0, above / half / (half * (above + 0.5) + density)), np.float64)


def _normal_cdf(x: Floats) -> Floats:
    """Return the normal distribution function of `x` >= 0, to 1e-7 (Abramowitz and Stegun, 26.2.17)."""
    t = 1 / (1 + 0.2316419 * x)
    tail = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    return np.asarray(1 - np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * tail, np.float64)


def _divided(series: Series, start: int, stop: int, significance: float) -> Iterator[int]:
    """Yield the changes of `start`..`stop`, each as the first bin after it."""
    candidates = []
    for left, right, share in _seeded(start, stop):
        scan = _scan(series.part(left, right))
        if scan.p_value <= significance * share:
            candidates.append((scan.p_value / share, -abs(float(scan.z[scan.best])), left + scan.first + scan.best))
    if candidates:
        at = min(candidates)[2]
        yield from _divided(series, start, at, significance)
        yield at
        yield from _divided(series, at, stop, significance)


def _seeded(start: int, stop: int) -> Iterator[tuple[int, int, float]]:
    """Yield the whole and, level by level, half as long intervals that overlap by half, with each one's share.

    Half of the level is the whole's; the rest is the other levels' alike.
    """
    length = stop - start
    yield start, stop, 0.5
    for level in range(1, _LEVELS):
        count = 2 ** (level + 1) - 1
        size = length / 2**level
        if size < 2 * FEWEST:
            return
        for number in range(count):
            left = start + round(number * size / 2)
            yield left, min(stop, left + math.ceil(size)), 0.5 / (_LEVELS - 1) / count


def _change(scan: _Scan, start: int) -> Change:
    squares = scan.z**2
    near = np.flatnonzero(squares >= squares[scan.best] - _LIKELIHOOD_DROP)
    first = start + scan.first
    return Change(first + scan.best, first + int(near[0]), first + int(near[-1]), scan.p_value)


def _place(gains: Floats, dispersion: float) -> tuple[int, int, int]:
    """Return where to end taking `gains` for the highest sum, and where it is hardly lower."""
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    best = int(np.argmax(sums))
    near = np.flatnonzero(2 * (sums[best] - sums) / dispersion <= _LIKELIHOOD_DROP)
    return best, int(near[0]), int(near[-1])


def _weighted(parts: Floats, sums: Floats, variance: float | None) -> Series:
    """Return a series that counts the parts of its bins by how much those scatter."""
    series = Series(parts, sums, variance, np.ones(len(parts)))
    groups = series
    if len(parts) and float(parts.sum()) == len(parts):
        size = max(_LEAST_GROUP, len(parts) // _GROUPS)
        starts = np.arange(0, len(parts) - size + 1, size)
        if len(starts) < _GROUPS // 2:
            return series
        count = len(starts) * size
        groups = Series(
            np.full(len(starts), float(size)), sums[:count].reshape(-1, size).sum(1), variance, np.ones(len(starts))
        )
    scatter, of_chance = _scatter(groups)
    if scatter == 0:
        return series
    size_of = parts if groups is series else np.full(len(parts), groups.parts[0])
    freedom = _CALM_EFFICIENCY * (len(groups) - 1)
    return Series(parts, sums, variance, 1 / (1 + size_of * scatter / of_chance), freedom)


def _scatter(bins: Series) -> tuple[float, float]:
    """Return the variance between bins beyond chance, from what neighbours differ; and the variance of one part.

    By the smaller differences, among which the changes are not.
    """
    if len(bins) < 3:  # noqa: PLR2004 - two differences
        return 0.0, 1.0
    squares = np.diff(bins.sums / bins.parts) ** 2
    each = 1 / bins.parts[1:] + 1 / bins.parts[:-1]
    if bins.variance is None:
        rate = (bins.sums[1:] + bins.sums[:-1]) / (bins.parts[1:] + bins.parts[:-1])
        chance, of_part = rate * (1 - rate) * each, float(np.mean(rate * (1 - rate)))
    else:
        chance, of_part = bins.variance * each, bins.variance
    if of_part <= 0:
        return 0.0, 1.0

    def calm(scatter: float) -> float:
        ratios = np.sort(squares / np.maximum(chance + 2 * scatter, 1e-300))
        return float(np.mean(ratios[: math.ceil(_CALM * len(ratios))]))

    if calm(0.0) <= _CALM_MEAN:
        return 0.0, of_part
    low, high = 0.0, float(np.max(squares)) / _CALM_MEAN
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if calm(middle) > _CALM_MEAN else (low, middle)
    return high, of_part
