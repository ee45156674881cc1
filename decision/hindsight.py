"""What another recipe would have made of parts, from what was kept of them: told only where it is certain. Pure.

Kept are the score, exactly, and at most the anomaly map that was judged, rounded to float16; often (a PASS) not even
that. So nothing is guessed: what is known of a map bounds it from below and above, both bounds are judged by
`decision/rules.py`, and where they get the same verdict the map itself got it, since more anomaly is never milder
(decision record 11). Counting defects is the exception: two that grow together are one. There, bounds that do not show
the very same regions tell no REVIEW from REJECT.

    map kept     each cell lies between the midpoints to its neighbours among the float16; the highest is the score
    no map kept  no inspected cell is above the score, and one of them is at it: wherever that is
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from config.messages import Judgement, Prediction, Reason, View
from decision.deadlines import Scored
from decision.rules import Rules, combine, judge_view
from decision.zones import Zones

Map = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Shape = tuple[int, int]

_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_HALF = 65520.0  # from here on a float32 is infinite as a float16
_RANK = {Judgement.PASS: 0, Judgement.REVIEW: 1, Judgement.REJECT: 2, Judgement.FAULT: 3}
_CORE = 16  # cells
_BY_RECIPE = frozenset({Reason.WRONG_FRAME, Reason.NOTHING_INSPECTED, Reason.UNKNOWN_RECIPE, Reason.WRONG_BUNDLE})


class Why(StrEnum):
    """Why it cannot be told what a part would have got."""

    NO_MAP = "NO_MAP"  # the score alone does not tell: no map was kept
    ROUNDED = "ROUNDED"  # the map that was kept is rounded, and the threshold lies in between
    OTHER_BUNDLE = "OTHER_BUNDLE"  # scored by another bundle
    NOT_JUDGED = "NOT_JUDGED"  # a FAULT because of the recipe itself, or one of which nothing was kept
    RECIPE_LOST = "RECIPE_LOST"  # what it was judged by is not known
    NO_TIME = "NO_TIME"  # the others have taken all of it: a threshold amid the noise makes regions without number


@dataclass(frozen=True)
class SeenView:
    """What was kept of a view; `anomaly_map` is float16 `(h, w)`."""

    camera: str
    score: float | None
    frame_shape: tuple[int, int, int] | None
    bundle_digest: str | None
    anomaly_map: npt.NDArray[np.float16] | None


@dataclass(frozen=True)
class SeenPart:
    """What was kept of a part; `then` is what it was judged by, None where that is not known."""

    verdict: Judgement
    reasons: tuple[Reason, ...]
    views: tuple[SeenView, ...]
    then: Rules | None


@dataclass(frozen=True)
class Told:
    """A verdict, or why there is none."""

    verdict: Judgement | None
    why: Why | None = None


_Range = tuple[View, View]  # the mildest and the worst that a view can have got


class Hindsight:
    """Parts ready to be judged again, many times. What is made ready takes ten bytes for each cell of a map."""

    def __init__(self, parts: Sequence[SeenPart], shape_of: Callable[[str], Shape | None]) -> None:
        """Make ready; `shape_of` tells the size of a bundle's maps, asked where no map of it was kept."""
        shapes: dict[str, Shape | None] = {}
        for view in (view for part in parts for view in part.views):
            if view.anomaly_map is not None and view.bundle_digest is not None:
                shapes[view.bundle_digest] = _shape(view.anomaly_map)

        def known(digest: str) -> Shape | None:
            if digest not in shapes:
                shapes[digest] = shape_of(digest)
            return shapes[digest]

        self._parts = [_Part.ready(part, known) for part in parts]

    def judge(self, rules: Rules, within_s: float = math.inf) -> list[Told]:
        """Tell what each part would have got by `rules`, in their order; `within_s` is processor time of the thread."""
        bench = _Bench(rules)
        ends_s = time.thread_time() + within_s
        found = []
        for part in self._parts:
            if isinstance(part, Told):
                found.append(part)
            else:
                found.append(part.judged(bench) if time.thread_time() < ends_s else Told(None, Why.NO_TIME))
        return found


@dataclass(frozen=True)
class _Part:
    views: dict[str, _ScoreOnly]

    @classmethod
    def ready(cls, part: SeenPart, shape_of: Callable[[str], Shape | None]) -> _Part | Told:
        if part.verdict is Judgement.FAULT:
            if _BY_RECIPE.isdisjoint(part.reasons):
                return Told(Judgement.FAULT)  # too late, or no picture: whatever the recipe
            return Told(None, Why.NOT_JUDGED)
        if part.then is None:
            return Told(None, Why.RECIPE_LOST)
        views: dict[str, _ScoreOnly] = {}
        for view in part.views:
            found = _view(view, part.then.zones[view.camera], shape_of)
            if isinstance(found, Why):
                return Told(None, found)
            views[view.camera] = found
        return cls(views)

    def judged(self, bench: _Bench) -> Told:
        rules = bench.rules
        ranges: list[_Range] = []
        why = Why.NO_MAP
        for camera, recipe in rules.recipe.views.items():
            view = self.views.get(camera)
            if view is None:
                return Told(None, Why.NOT_JUDGED)
            if recipe.bundle_digest not in {None, view.bundle_digest}:
                return Told(None, Why.OTHER_BUNDLE)
            found = view.range(bench)
            if isinstance(view, _Mapped) and found[0].verdict is not found[1].verdict:
                why = Why.ROUNDED
            ranges.append(found)
        needed = rules.recipe.reject_views
        mildest, worst = (combine([one[end] for one in ranges], needed)[0] for end in (0, 1))
        return Told(worst) if mildest is worst else Told(None, why)


def _view(view: SeenView, zones: Zones, shape_of: Callable[[str], Shape | None]) -> _ScoreOnly | Why:
    if view.score is None or view.frame_shape is None or view.bundle_digest is None:
        return Why.NOT_JUDGED
    shape = shape_of(view.bundle_digest) if view.anomaly_map is None else _shape(view.anomaly_map)
    if shape is None:
        return Why.NO_MAP
    cells = zones.cells(shape, view.frame_shape[:2])
    if cells is None:
        return Why.NOT_JUDGED
    seen = _ScoreOnly(view.camera, view.score, view.frame_shape, shape, view.bundle_digest, cells.inspected)
    return seen if view.anomaly_map is None else _Mapped.ready(seen, view.anomaly_map)


class _Bench:
    """A recipe to judge by, and what was found out already for scores that no limit tells apart."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.known: dict[tuple[object, ...], _Range] = {}
        self.counts = {
            camera: any(one.reject_from_defects is not None for one in limits)
            for camera, limits in rules.limits.items()
        }
        self.thresholds = {
            camera: np.array(sorted({limit for one in limits for limit in (one.review_above, one.reject_above)}))
            for camera, limits in rules.limits.items()
        }

    def judged(self, view: _ScoreOnly, score: float, anomaly_map: Map) -> View:
        recipe = self.rules.recipe.views[view.camera]
        zones, limits = self.rules.zones[view.camera], self.rules.limits[view.camera]
        return judge_view(view.camera, view.scored(score, anomaly_map), recipe, limits, zones)


@dataclass(frozen=True)
class _ScoreOnly:
    """A view of which the score is known: no cell that was inspected then is above it, and one is at it."""

    camera: str
    score: float
    frame_shape: tuple[int, int, int]
    map_shape: Shape
    bundle_digest: str
    inspected: Bools | None  # then; None: all

    def scored(self, score: float, anomaly_map: Map) -> Scored:
        prediction = Prediction(
            frame_id="",
            part_id="",
            camera=self.camera,
            score=score,
            map_shape=self.map_shape,
            frame_shape=self.frame_shape,
            bundle_digest=self.bundle_digest,
            worker="hindsight",
            batch_size=1,
            received_ns=0,
            started_ns=0,
            finished_ns=0,
        )
        return Scored(prediction, anomaly_map)

    def range(self, bench: _Bench) -> _Range:
        # a verdict depends on which thresholds the score is above, and on nothing else of it
        above = int(np.searchsorted(bench.thresholds[self.camera], self.score))
        where = None if self.inspected is None else id(self.inspected)
        key = (self.camera, self.frame_shape, self.map_shape, where, above)
        if key not in bench.known:
            bench.known[key] = self._range(bench)
        return bench.known[key]

    def _range(self, bench: _Bench) -> _Range:
        nowhere = np.full(self.map_shape, -_LARGEST, np.float32)
        everywhere = nowhere.copy()
        everywhere[...] = self.score
        if self.inspected is not None:
            everywhere[~self.inspected] = _LARGEST  # nothing is known there
        found = [
            bench.judged(self, float(everywhere.max()), everywhere),
            bench.judged(self, self.score, nowhere),  # a score that its map did not show
        ]
        for cell in self._kinds(bench):
            there = nowhere.copy()
            there[cell] = self.score
            found.append(bench.judged(self, self.score, there))
        found.sort(key=lambda view: _RANK[view.verdict])
        return found[0], _counted(bench, self.camera, found[-1])

    def _kinds(self, bench: _Bench) -> list[tuple[int, int]]:
        """Return a cell of each kind: inspected now or not, and by whose limits."""
        cells = bench.rules.zones[self.camera].cells(self.map_shape, self.frame_shape[:2])
        if cells is None:
            return []
        kinds = np.zeros(self.map_shape, np.intp) if cells.limits is None else cells.limits + 1
        if cells.inspected is not None:
            kinds = np.where(cells.inspected, kinds, -1)
        candidates = kinds.ravel() if self.inspected is None else np.where(self.inspected, kinds, -2).ravel()
        values, first = np.unique(candidates, return_index=True)
        width = self.map_shape[1]
        return [divmod(int(at), width) for value, at in zip(values, first, strict=True) if value != -2]  # noqa: PLR2004 - not inspected then


@dataclass(frozen=True)
class _Mapped(_ScoreOnly):
    """A view whose map is known but for its rounding: each cell lies from `low` to `high`, float32 `(h, w)`."""

    low: Map
    high: Map
    core_from: float  # the few highest cells of `low` are at least this
    top: _ScoreOnly  # the same view, if all that is known were that nothing is above its highest cell
    shown: bool  # the map shows the score: it is its highest cell

    @classmethod
    def ready(cls, view: _ScoreOnly, kept: npt.NDArray[np.float16]) -> _ScoreOnly:
        """Return the view with its map, or without where the map went beyond what a float16 can say."""
        if not np.isfinite(kept).all():
            return view
        low, high = _midpoint(kept, -np.inf), _midpoint(kept, np.inf)
        counted = np.ones(kept.shape, np.bool_) if view.inspected is None else view.inspected
        peaks = counted & (kept == kept[counted].max())
        shown = bool(low[peaks].max() <= view.score <= high[peaks].max())
        if shown:
            high[counted] = np.minimum(high[counted], np.float32(view.score))
            if np.count_nonzero(peaks) == 1:
                low[peaks] = np.float32(view.score)
        top = float(high.max()) if shown else max(float(high.max()), view.score)
        said = (view.camera, view.score, view.frame_shape, view.map_shape, view.bundle_digest, view.inspected)
        whole = _ScoreOnly(view.camera, top, view.frame_shape, view.map_shape, view.bundle_digest, None)
        core_from = float(np.partition(low, -_CORE, axis=None)[-_CORE]) if low.size > _CORE else -_LARGEST
        return cls(*said, low=low, high=high, core_from=core_from, top=whole, shown=shown)

    def range(self, bench: _Bench) -> _Range:
        quick = self.top.range(bench)
        if quick[1].verdict is Judgement.PASS:
            return quick
        if not bench.counts[self.camera]:
            # of thousands of cells above a threshold the few highest often tell as much: no milder, and in no time
            core = np.where(self.low >= self.core_from, self.low, np.float32(-_LARGEST))
            least = bench.judged(self, float(core.max()), core)
            if least.verdict in {Judgement.REJECT, quick[1].verdict}:
                return least, least
        worst = bench.judged(self, float(self.high.max()) if self.shown else self.score, self.high)
        if worst.verdict in {Judgement.PASS, Judgement.FAULT}:
            return worst, worst
        mildest = bench.judged(self, float(self.low.max()) if self.shown else self.score, self.low)
        if not bench.counts[self.camera] or _same_places(mildest, worst):
            return mildest, worst
        if mildest.verdict is Judgement.REJECT and Reason.ABOVE_THRESHOLD not in mildest.reasons:
            mildest = replace(mildest, verdict=Judgement.REVIEW)  # so many defects may have been fewer
        return mildest, _counted(bench, self.camera, worst)


def _counted(bench: _Bench, camera: str, worst: View) -> View:
    """Return the worst where defects are counted: a REVIEW may have had enough of them."""
    if worst.verdict is Judgement.REVIEW and bench.counts[camera]:
        return replace(worst, verdict=Judgement.REJECT)
    return worst


def _same_places(one: View, other: View) -> bool:
    def places(view: View) -> list[tuple[int, ...]]:
        return sorted((at.x_px, at.y_px, at.width_px, at.height_px, at.area_px) for at in view.regions)

    return places(one) == places(other)


def _midpoint(kept: npt.NDArray[np.float16], towards: float) -> Map:
    """Return the middle between each value and its neighbour among the float16, exactly."""
    neighbour = np.nextafter(kept, np.float16(towards)).astype(np.float32)
    middle: Map = (kept.astype(np.float32) + neighbour) / np.float32(2)
    return middle.clip(-np.float32(_LARGEST_HALF), np.float32(_LARGEST_HALF))


def _shape(anomaly_map: npt.NDArray[np.float16]) -> Shape:
    return anomaly_map.shape[0], anomaly_map.shape[1]
