"""How well two people agree beyond chance: Cohen's kappa (Cohen, Educational and Psychological Measurement 1960).

Its standard error is that of Fleiss, Cohen and Everitt (Psychological Bulletin 1969), for many parts. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NORMAL = 1.959964  # standard deviations of a normal distribution that hold 95 % of it


class Kappa(NamedTuple):
    """Agreement beyond chance, from -1 to 1, and its 95 % interval."""

    value: float
    low: float
    high: float


def cohen(counts: Sequence[Sequence[int]]) -> Kappa | None:
    """Return the kappa of a square table: `counts[i][j]` parts of which one says `i` and the other `j`.

    None where it means nothing: without parts, or where both say the same one thing of all of them.
    """
    table = np.asarray(counts, np.float64)
    parts = table.sum()
    if parts == 0:
        return None
    shares = table / parts
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    agreed, chance = float(np.trace(shares)), float(rows @ columns)
    if chance >= 1.0:
        return None
    kappa = (agreed - chance) / (1 - chance)
    same = np.diag(shares) @ (1 - (rows + columns) * (1 - kappa)) ** 2
    apart = shares * (columns[:, None] + rows[None, :]) ** 2
    other = (1 - kappa) ** 2 * (apart.sum() - np.trace(apart))
    variance = (same + other - (kappa - chance * (1 - kappa)) ** 2) / (parts * (1 - chance) ** 2)
    reach = _NORMAL * math.sqrt(max(0.0, float(variance)))
    return Kappa(kappa, max(-1.0, kappa - reach), min(1.0, kappa + reach))
