"""Confidence intervals: exact ones of a rate (Clopper and Pearson, 1934), and of an area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

CONFIDENCE = 0.95
_NORMAL = 1.959964  # standard deviations of a normal distribution that hold 95 % of it
_NEGLIGIBLE = 1e-18
_BISECTIONS = 60  # down to the last bit of a double


@lru_cache(maxsize=1024)  # sixty sums each, and the same few are asked for again and again
def upper_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the rate that lies above the true one with this confidence, when `events` of `trials` were seen."""
    if events >= trials:
        return 1.0
    return _bisect(lambda rate: binomial_cdf(events, trials, rate) > 1 - confidence)


def lower_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the rate that lies below the true one with this confidence, when `events` of `trials` were seen."""
    return 1.0 - upper_bound(trials - events, trials, confidence)


def interval(events: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the two-sided interval; (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    one_sided = (1 + confidence) / 2
    return lower_bound(events, trials, one_sided), upper_bound(events, trials, one_sided)


def trials_to_promise(rate: float, events: int = 0, confidence: float = CONFIDENCE) -> int:
    """Return the fewest trials with which `events` events still promise at most `rate`."""
    low, high = events, max(1, events)
    while upper_bound(events, high, confidence) > rate:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if upper_bound(events, middle, confidence) > rate:
            low = middle
        else:
            high = middle
    return high


def area_interval(area: float, good: int, bad: int) -> tuple[float, float]:
    """Return the 95 % interval of an area under the ROC curve of so many good and bad ones, one at least of each.

    Newcombe's fifth method (Statistics in Medicine 2006): the areas whose own standard error by Hanley and McNeil
    (Radiology 1982) reaches the one seen. It keeps its width where every bad one is above every good one.
    """

    def reach(true: float) -> float:
        others = (good + bad) / 2 - 1
        pairs = 1 + others * ((1 - true) / (2 - true) + true / (1 + true))
        return _NORMAL * math.sqrt(true * (1 - true) * pairs / (good * bad))

    low = 0.0 if area <= 0.0 else _bisect(lambda share: share * area + reach(share * area) < area) * area
    rest = 1.0 - area
    high = 1.0 if rest <= 0.0 else 1.0 - _bisect(lambda share: 1 - share * rest - reach(1 - share * rest) > area) * rest
    return low, high


def binomial_cdf(events: int, trials: int, rate: float) -> float:
    """Return the probability of at most `events` events in `trials`, each of probability `rate`."""
    if rate <= 0.0 or events >= trials:
        return 1.0
    if rate >= 1.0 or events < 0:
        return 0.0
    if events > trials * rate:
        return 1.0 - binomial_cdf(trials - events - 1, trials, 1.0 - rate)
    log_ways = math.lgamma(trials + 1) - math.lgamma(events + 1) - math.lgamma(trials - events + 1)
    odds = rate / (1.0 - rate)
    term = total = 1.0  # in multiples of the probability of just so many; fewer are less and less likely
    for k in range(events, 0, -1):
        term *= k / ((trials - k + 1) * odds)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return math.exp(log_ways + events * math.log(rate) + (trials - events) * math.log1p(-rate)) * total


def _bisect(below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return high
