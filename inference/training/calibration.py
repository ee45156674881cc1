"""Thresholds from held-out good images, and what may be promised of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from config.errors import InputError
from config.intervals import trials_to_promise, upper_bound
from inference.bundle import Calibration

ODD_PARTS = 1  # among the good images, that must not set the threshold where it is promised
TAIL_SHARE = 0.1  # the scores whose excess tells how the tail falls
RARER = 10.0  # how much rarer a good part above reject_above is than one above review_above


def calibrate(held_out_scores: Sequence[float], alpha: float, *, copies: bool = False) -> Calibration:
    """Return thresholds for a rate `alpha` of good parts above `review_above`; raise InputError for scores not finite.

    With enough images (473 for 1 %), `review_above` is the lowest score of which the rate can be promised: with 95 %
    confidence no more than alpha of all good parts lie above it (Wilks, 1941). With fewer it is the conformal quantile,
    the ⌈(n + 1)(1 - alpha)⌉-th smallest of n scores: a further good part lies above it with probability at most alpha,
    taken over all such calibrations (Vovk et al., 2005). Below 1/alpha - 1 images it is the highest score.
    `alpha_upper` bounds the true rate above it with 95 % confidence: for an order statistic this is the
    Clopper-Pearson bound of the number of scores above it. `more_images` leads to the first case, which is reached
    when one score may lie above: 299 images could promise 1 % by their highest score, but then a single odd part among
    them sets the threshold (on magnetic tiles, 390 of 392 defects escaped that way).

    `reject_above` is where good parts are ten times rarer still, by an exponential tail through the highest tenth of
    the scores (Pickands, 1975, shape 0). So only what hardly any good part comes near is rejected outright; the gray
    zone in between is as narrow as the scatter of good parts allows, and a person's eye on it costs no escape, for
    REVIEW acts like REJECT at the gate unless a recipe says otherwise.

    Scores of `copies` of a single image say how that image's scores scatter and nothing of other parts: `review_above`
    is the highest of them, and no rate is promised.
    """
    scores = np.sort(np.asarray(held_out_scores, dtype=np.float64))
    count = len(scores)
    if count == 0 or not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} of {count} held-out scores are no finite numbers")
    if not 0 < alpha < 1:
        raise InputError(f"the false-reject rate asked for is {alpha}: it lies between 0 and 1")
    known = 0 if copies else count
    missing = max(0, trials_to_promise(alpha, ODD_PARTS) - known)
    rank = count if copies else min(count, math.ceil((count + 1) * (1 - alpha)))
    if not missing:
        rank = next(rank for rank in range(rank, count + 1) if upper_bound(count - rank, count) <= alpha)
    review_above = float(scores[rank - 1])
    above = int((scores > review_above).sum())
    tail = scores[-max(2, math.ceil(count * TAIL_SHARE)) :]
    excess = float((tail - tail[0]).mean())
    return Calibration(
        alpha=alpha,
        review_above=review_above,
        reject_above=review_above + excess * math.log(RARER),
        held_out_images=known,
        held_out_above=above,
        alpha_upper=upper_bound(above, known),
        more_images=missing,
        held_out_median=float(np.median(scores)),
        held_out_max=float(scores[-1]),
    )


HELD_OUT_SHARE = 5  # one part in so many, where only one detector is fitted


def folds(count: int, wanted: int, seed: int, alike: Sequence[tuple[int, int]] = ()) -> list[np.ndarray]:
    """Return what is held out of each fit: `wanted` (at most `count`) disjoint, shuffled index arrays of 0..count-1.

    With 1 it is a fifth, which no fit sees; with more they hold all indices between them. Pairs that are `alike` are
    held out together, or one would vouch for the other; but a chain of them too long for a fold is cut.
    """
    parts = min(wanted if wanted > 1 else HELD_OUT_SHARE, count)
    room = -(-count // parts)
    together = {index: [index] for index in range(count)}
    for one, other in alike:
        if together[one] is not together[other] and len(together[one]) + len(together[other]) <= room:
            together[one].extend(together[other])
            together |= dict.fromkeys(together[other], together[one])
    held: list[list[int]] = [[] for _ in range(parts)]
    for index in np.random.default_rng(seed).permutation(count).tolist():
        if together[index][0] == index:
            min(held, key=len).extend(together[index])
    filled = [np.sort(part) for part in held if part]
    return filled if wanted > 1 else filled[-1:]
