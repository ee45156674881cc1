"""What a replay finds: of each part and of all of them. Pure.

A score is *the same* within the tolerance in which the bundle's golden frames must come out again on any engine; on the
engine that gave it, it comes out to the last bit. Regions are the same if their boxes are.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, computed_field

from config.messages import Judgement, Reason
from storage.query.answers import Region


class Pixels(StrEnum):
    """How faithful the pixels are that a view was replayed from; only EXACT ones give the score again."""

    EXACT = "exact"
    FULL = "full-size JPEG"
    REDUCED = "reduced JPEG"


class Obstacle(StrEnum):
    """Why a part cannot be replayed."""

    NO_PIXELS = "no pixels kept"
    IMAGE_LOST = "image lost"
    UNREADABLE_IMAGE = "image unreadable"
    WRONG_FRAME = "not a frame that the bundle takes"
    NO_RECIPE = "recipe unknown"
    NO_BUNDLE = "bundle unknown"
    BUNDLE_REFUSED = "bundle refused"
    OTHER_PRODUCT = "another product's recipe"


class _Finding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ViewFinding(_Finding):
    """One view, then and now."""

    camera: str
    pixels: Pixels
    bundle_then: str | None
    bundle_now: str
    score_then: float | None
    score_now: float | None
    tolerance: float
    verdict_then: Judgement
    verdict_now: Judgement
    regions_then: tuple[Region, ...]
    regions_now: tuple[Region, ...]

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way, mypy knows no decorated property
    @property
    def difference(self) -> float | None:
        """By how much the score is higher now."""
        return None if self.score_then is None or self.score_now is None else self.score_now - self.score_then

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def same_score(self) -> bool:
        """Whether the score is the same; without one then, there is nothing to differ from."""
        if self.score_then is None:
            return True
        return self.difference is not None and abs(self.difference) <= self.tolerance

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def same_regions(self) -> bool:
        """Whether there are the same regions; without a score then, there is nothing to differ from."""
        return self.score_then is None or sorted(map(_box, self.regions_then)) == sorted(map(_box, self.regions_now))


class PartFinding(_Finding):
    """One part, then and now; `obstacle` and `detail` say why it cannot be replayed, and then `verdict_now` is None."""

    part_id: str
    trigger_time: datetime
    product: str
    recipe: str
    verdict_then: Judgement
    reasons_then: tuple[Reason, ...]
    verdict_now: Judgement | None = None
    views: tuple[ViewFinding, ...] = ()
    obstacle: Obstacle | None = None
    detail: str = ""

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def exact(self) -> bool:
        """Whether every view was replayed from every pixel that the detector saw."""
        return self.obstacle is None and all(view.pixels is Pixels.EXACT for view in self.views)

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def differs(self) -> bool:
        """Whether anything is not the same; a FAULT was no judgement of the pixels, so any verdict may follow it."""
        if self.obstacle is not None:
            return False
        if self.verdict_then is not Judgement.FAULT and self.verdict_now is not self.verdict_then:
            return True
        return not all(view.same_score and view.same_regions for view in self.views)


class Comparison(_Finding):
    """Parts that had been judged, as a group: `verdicts` counts `then->now`."""

    parts: int = 0
    same: int = 0
    scores_differ: int = 0
    regions_differ: int = 0
    verdicts: dict[str, int] = {}
    largest_difference: float = 0.0
    largest_difference_part: str | None = None
    tolerance: float = 0.0  # the largest that was allowed


class Summary(_Finding):
    """All parts of a replay.

    `faults_…` count what parts that were FAULT then would have been; of them only those whose score is another one
    now, of exact pixels, are also among the compared.
    """

    parts: int
    exact: Comparison
    approximate: Comparison
    faults_exact: dict[str, int]
    faults_approximate: dict[str, int]
    not_replayable: dict[str, int]
    as_then: bool  # by the recipes and bundles of then

    @property
    def failed(self) -> bool:
        """Whether a replay that must give the same did not."""
        return self.as_then and self.exact.same < self.exact.parts


class Account:
    """Sum up findings one by one; its size does not grow with them."""

    def __init__(self, *, as_then: bool) -> None:
        self._as_then = as_then
        self._parts = 0
        self._compared = {True: _Compared(), False: _Compared()}
        self._faults: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        self._obstacles: Counter[str] = Counter()

    def add(self, found: PartFinding) -> None:
        """Count a part."""
        self._parts += 1
        if found.obstacle is not None or found.verdict_now is None:
            self._obstacles[found.obstacle or ""] += 1
            return
        if found.verdict_then is Judgement.FAULT:
            self._faults[found.exact][found.verdict_now] += 1
        if found.verdict_then is not Judgement.FAULT or (found.exact and found.differs):
            self._compared[found.exact].add(found)

    def summary(self) -> Summary:
        """Return the sums so far."""
        return Summary(
            parts=self._parts,
            exact=self._compared[True].done(),
            approximate=self._compared[False].done(),
            faults_exact=dict(self._faults[True]),
            faults_approximate=dict(self._faults[False]),
            not_replayable=dict(self._obstacles),
            as_then=self._as_then,
        )


class _Compared:
    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._largest = 0.0
        self._largest_part: str | None = None
        self._tolerance = 0.0

    def add(self, found: PartFinding) -> None:
        self._count["parts"] += 1
        self._count["same"] += not found.differs
        self._count["scores_differ"] += not all(view.same_score for view in found.views)
        self._count["regions_differ"] += not all(view.same_regions for view in found.views)
        self._verdicts[f"{found.verdict_then}->{found.verdict_now}"] += 1
        for view in found.views:
            self._tolerance = max(self._tolerance, view.tolerance)
            if view.difference is not None and abs(view.difference) > self._largest:
                self._largest, self._largest_part = abs(view.difference), found.part_id

    def done(self) -> Comparison:
        return Comparison(
            **{name: self._count[name] for name in ("parts", "same", "scores_differ", "regions_differ")},
            verdicts=dict(self._verdicts),
            largest_difference=self._largest,
            largest_difference_part=self._largest_part,
            tolerance=self._tolerance,
        )


def _box(region: Region) -> tuple[int, int, int, int, int]:
    return region.x_px, region.y_px, region.width_px, region.height_px, region.area_px
