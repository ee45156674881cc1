"""What reviews tell of the verdicts: how many are wrong, as far as a sample can say.

Of each verdict, parts were reviewed that a hash of their ids chose (`storage/sampling.py`): what they look like had no
part in it, so the share of defective ones among them stands for all parts of that verdict, with its exact interval
(Clopper and Pearson, Biometrika 1934). How many parts there are of each verdict is counted, not estimated; so shares
of all good or all defective parts follow by weighting. Their intervals are exact, too, and wider than they must be:
each of the `k` verdicts keeps within its own interval with a confidence of 1 - 0.05 / k, so all do
together with 95 %. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from config.intervals import CONFIDENCE, interval
from config.messages import Judgement


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Answer):
    """A share and its 95 % interval; `share` is None where nothing can be said of it but the interval."""

    share: float | None
    low: float
    high: float


class Reviewed(_Answer):
    """The parts of one verdict, and what people found of those of the sample that they looked at."""

    verdict: Judgement
    rate: float  # of the sample
    parts: int  # all of this verdict
    good: int
    defect: int
    undecided: int  # UNSURE, or reviewers disagree: not among those below

    @property
    def decided(self) -> int:
        """How many parts people know the truth of."""
        return self.good + self.defect

    @property
    def defective(self) -> Estimate:
        """Which share of the parts of this verdict is defective."""
        return self.bounds(CONFIDENCE)

    def bounds(self, confidence: float) -> Estimate:
        """Return the defective share with an interval of another confidence."""
        low, high = interval(self.defect, self.decided, confidence)
        return Estimate(share=self.defect / self.decided if self.decided else None, low=low, high=high)


class Confusion(_Answer):
    """Verdicts against findings, and what follows for all parts from `since` to `until`.

    `false_rejects` is the share of good parts that did not pass, `escapes` that of defective parts that passed.
    """

    since: datetime | None  # None: from the first part on
    until: datetime | None
    verdicts: tuple[Reviewed, ...]
    false_rejects: Estimate
    escapes: Estimate
    defective: Estimate  # of all parts


def false_rejects(verdicts: Sequence[Reviewed]) -> Estimate:
    """Return which share of the good parts did not pass: not PASS, whatever else."""
    return _weighted(verdicts, passed=False, good=True)


def escapes(verdicts: Sequence[Reviewed]) -> Estimate:
    """Return which share of the defective parts passed."""
    return _weighted(verdicts, passed=True, good=False)


def defective(verdicts: Sequence[Reviewed]) -> Estimate:
    """Return which share of all parts is defective."""
    there = [one for one in verdicts if one.parts]
    parts = sum(one.parts for one in there)
    if not parts:
        return Estimate(share=None, low=0.0, high=1.0)
    bounds = _bounds(there)
    low, high = (
        sum(one.parts * getattr(bound, side) for one, bound in zip(there, bounds, strict=True)) / parts
        for side in ("low", "high")
    )
    shares = [bound.share for bound in bounds]
    known = [share for share in shares if share is not None]
    share = sum(one.parts * value for one, value in zip(there, known, strict=True)) / parts if known == shares else None
    return Estimate(share=share, low=low, high=high)


def _weighted(verdicts: Sequence[Reviewed], *, passed: bool, good: bool) -> Estimate:
    """Return which share of the good or defective parts lies with those that passed, or with those that did not."""
    there = [one for one in verdicts if one.parts]
    bounds = _bounds(there)
    meant = [(one.verdict is Judgement.PASS) == passed for one in there]

    def share(chosen: Sequence[float]) -> float | None:
        counts = [one.parts * (1 - value if good else value) for one, value in zip(there, chosen, strict=True)]
        inside = sum(count for count, is_meant in zip(counts, meant, strict=True) if is_meant)
        return inside / sum(counts) if sum(counts) > 0 else None

    # the share grows with what those that are meant have of it, and falls with what the others have
    fewest = ["high" if is_meant == good else "low" for is_meant in meant]
    most = ["low" if is_meant == good else "high" for is_meant in meant]
    low = share([getattr(bound, side) for bound, side in zip(bounds, fewest, strict=True)])
    high = share([getattr(bound, side) for bound, side in zip(bounds, most, strict=True)])
    known = [bound.share for bound in bounds if bound.share is not None]
    middle = share(known) if len(known) == len(bounds) else None
    return Estimate(share=middle, low=0.0 if low is None else low, high=1.0 if high is None else high)


def _bounds(verdicts: Sequence[Reviewed]) -> list[Estimate]:
    return [one.bounds(1 - (1 - CONFIDENCE) / len(verdicts)) for one in verdicts]
