"""Patterns in a control chart that chance seldom makes: the rules of Western Electric and of Nelson. Pure.

Western Electric's are of the Statistical Quality Control Handbook, 1956: a false alarm every 92 points (Champ and
Woodall, Technometrics 1987), against 370 of the limits alone. Nelson's are of The Shewhart Control Chart: Tests for
Special Causes, Journal of Quality Technology 1984.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BEYOND = 3.0  # standard deviations: a limit


class Pattern(StrEnum):
    """What a point, with those before it, is a sign of; in the order of Nelson's tests."""

    LIMIT = "limit"  # beyond a limit
    RUN = "run"  # 9 in a row on one side of the middle; Western Electric: 8
    TREND = "trend"  # 6 in a row, each above the one before, or each below
    ALTERNATING = "alternating"  # 14 in a row up and down in turn
    TWO_OF_THREE = "two_of_three"  # beyond 2 standard deviations on one side
    FOUR_OF_FIVE = "four_of_five"  # beyond 1 standard deviation on one side
    HUGGING = "hugging"  # 15 in a row within 1 standard deviation
    AVOIDING = "avoiding"  # 8 in a row beyond 1 standard deviation, on either side


class Rules(StrEnum):
    """Which patterns are looked for."""

    LIMITS = "limits"  # points beyond a limit alone
    WESTERN_ELECTRIC = "western_electric"
    NELSON = "nelson"  # all of them

    @property
    def patterns(self) -> frozenset[Pattern]:
        """The patterns of these rules."""
        return _PATTERNS[self]


_PATTERNS = {
    Rules.LIMITS: frozenset({Pattern.LIMIT}),
    Rules.WESTERN_ELECTRIC: frozenset({Pattern.LIMIT, Pattern.RUN, Pattern.TWO_OF_THREE, Pattern.FOUR_OF_FIVE}),
    Rules.NELSON: frozenset(Pattern),
}
_RUN = {Rules.WESTERN_ELECTRIC: 8, Rules.NELSON: 9}
_TREND, _ALTERNATING, _HUGGING, _AVOIDING = 6, 14, 15, 8


def patterns(deviations: Floats, rules: Rules) -> list[tuple[Pattern, ...]]:
    """Return for each point the patterns that end there; `deviations` from the middle are in standard deviations."""
    found: list[list[Pattern]] = [[] for _ in deviations]
    for pattern, ends in _ends(deviations, _RUN.get(rules, 1)).items():
        if pattern in rules.patterns:
            for index in np.flatnonzero(ends):
                found[index].append(pattern)
    return [tuple(of_point) for of_point in found]


def _ends(z: Floats, run: int) -> dict[Pattern, NDArray[np.bool_]]:
    """Return at which points each pattern ends."""
    steps = np.diff(z, prepend=z[:1])
    turns = np.append([False], steps[1:] * steps[:-1] < 0)[: len(z)]
    return {
        Pattern.LIMIT: np.abs(z) > _BEYOND,
        Pattern.RUN: _all(z > 0, run) | _all(z < 0, run),
        Pattern.TREND: _all(steps > 0, _TREND - 1) | _all(steps < 0, _TREND - 1),
        Pattern.ALTERNATING: _all(turns, _ALTERNATING - 2),
        Pattern.TWO_OF_THREE: _most(z > 2, 2, 3) | _most(z < -2, 2, 3),  # noqa: PLR2004 - standard deviations
        Pattern.FOUR_OF_FIVE: _most(z > 1, 4, 5) | _most(z < -1, 4, 5),
        Pattern.HUGGING: _all(np.abs(z) < 1, _HUGGING),
        Pattern.AVOIDING: _all(np.abs(z) > 1, _AVOIDING),
    }


def _all(signs: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Return where `length` signs in a row end."""
    return np.asarray(_count(signs, length) == length, np.bool_)


def _most(signs: NDArray[np.bool_], most: int, length: int) -> NDArray[np.bool_]:
    """Return where a sign stands that is one of at least `most` among the last `length` points."""
    return np.asarray(signs & (_count(signs, length) >= most), np.bool_)


def _count(signs: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Return how many of the last `length` points have the sign; of the first points, how many so far."""
    total = np.cumsum(signs, dtype=np.int64)
    before = np.concatenate([np.zeros(min(length, len(signs)), np.int64), total[: max(0, len(signs) - length)]])
    return np.asarray(total - before, np.int64)
