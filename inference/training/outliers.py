"""Scores that lie too far out to be those of parts like the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

ERROR_RATE = 0.05  # of folders that hold nothing odd, the share of which something is named
FEWEST = 8  # scores, below which a quarter of them is too few to know how far they scatter
_SIMULATED = 2_000_000  # values drawn for a critical value: 0.1 s
_FEWEST_SETS = 400
_FINEST = 1e-3  # of the median: a scatter below this is rounding


def outlying_above(scores: Sequence[float]) -> float | None:
    """Return the score above which one lies too far out, or None of fewer than FEWEST scores.

    How far is counted from the median, in steps from there to the upper quartile: both stay where they are as long as
    less than a quarter of the scores are spoilt, and good parts scatter to that side. A score is a maximum of many, so
    parts that are alike scatter by the law of extremes (Fisher and Tippett, 1928; Gumbel). The limit is the one that
    the highest of as many such scores passes in ERROR_RATE of all cases, simulated, so that it holds for few scores too
    (the idea of Grubbs' test, 1950, with robust figures and that law in place of mean, deviation and the normal law).
    """
    if len(scores) < FEWEST:
        return None
    median, quartile = np.quantile(np.asarray(scores, np.float64), (0.5, 0.75))
    step = max(float(quartile - median), _FINEST * abs(float(median)))
    return float(median) + _critical(len(scores)) * step


@cache
def _critical(count: int) -> float:
    sets = max(_FEWEST_SETS, _SIMULATED // count)
    drawn = np.random.default_rng(count).gumbel(size=(sets, count))
    median, quartile = np.quantile(drawn, (0.5, 0.75), axis=1)
    return float(np.quantile((drawn.max(axis=1) - median) / (quartile - median), 1 - ERROR_RATE))
