"""From what is known of a part to its verdict. Pure and deterministic: the same answers and recipe, the same verdict.

A detector's score is the maximum of its anomaly map, so one threshold serves both: a view is rejected because of the
regions of its map above the threshold (`decision/defects.py`), and those that lie where nothing is inspected
(`decision/zones.py`) or are too small do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from msgspec.structs import replace

from config import recipe as recipes
from config.messages import GateCommand, Judgement, Loss, Reason, Verdict, View
from decision import defects
from decision.deadlines import OpenPart, Scored
from decision.zones import Zones

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.messages import Region
    from config.recipe import Limits, Recipe, ViewRecipe
    from decision.defects import Defect

_WORST_FIRST = (Judgement.FAULT, Judgement.REJECT, Judgement.REVIEW)


@dataclass(frozen=True)
class Rules:
    """A recipe ready to judge by: its pictures are read and its content is named."""

    recipe: Recipe
    digest: str
    zones: dict[str, Zones]

    @classmethod
    def load(cls, recipe: Recipe) -> Self:
        """Read what a recipe names; raise ConfigurationError for any fault."""
        zones = {camera: Zones.read(view) for camera, view in recipe.views.items()}
        return cls(recipe, recipes.digest(recipes.content(recipe)), zones)

    def warm(self, like: Rules) -> None:
        """Work out what the places are for the sizes of frame and map that parts judged by `like` have had."""
        for camera, zones in self.zones.items():
            for map_shape, frame in like.zones[camera].sizes:
                zones.cells(map_shape, frame)

    @cached_property
    def bundles(self) -> dict[str, str]:
        """The bundle of each view that pins one, by digest."""
        views = self.recipe.views.items()
        return {camera: view.bundle_digest for camera, view in views if view.bundle_digest is not None}

    @cached_property
    def limits(self) -> dict[str, tuple[Limits, ...]]:
        """The limits of each view: its own, then its zones'."""
        return {camera: view.limits() for camera, view in self.recipe.views.items()}


def judge_view(
    camera: str, answer: Scored | Loss | None, recipe: ViewRecipe, limits: Sequence[Limits], zones: Zones
) -> View:
    """Judge one view; no answer is LATE."""
    if not isinstance(answer, Scored):
        return _fault(camera, answer.reason if answer else Reason.LATE, recipe)
    seen, anomaly_map = answer.prediction, answer.anomaly_map
    if recipe.bundle_digest is not None and seen.bundle_digest != recipe.bundle_digest:
        return _fault(camera, Reason.WRONG_BUNDLE, recipe, answer)
    score = seen.score
    if score is None or not math.isfinite(score) or not np.isfinite(anomaly_map).all():
        return _fault(camera, Reason.NOT_FINITE, recipe, answer)
    cells = zones.cells(seen.map_shape, seen.frame_shape[:2])
    if cells is None:
        return _fault(camera, Reason.WRONG_FRAME, recipe, answer)
    if cells.inspected is not None and not cells.inspected.any():
        return _fault(camera, Reason.NOTHING_INSPECTED, recipe, answer)
    found = defects.find(anomaly_map, cells, limits, seen.frame_shape)
    if score > anomaly_map.max():
        # A map that does not show what the score says: take the whole frame rather than let it pass.
        found = (*defects.somewhere(score, limits, seen.frame_shape), *found)
    elif cells.inspected is not None:
        score = float(anomaly_map[cells.inspected].max())
    verdict, reasons = _weigh(found, limits)
    return _view(camera, verdict, reasons, recipe, answer, score, tuple(defect.region for defect in found))


def _weigh(found: Sequence[Defect], limits: Sequence[Limits]) -> tuple[Judgement, tuple[Reason, ...]]:
    """Return what the defects of a view make of it, and why."""
    if not found:
        return Judgement.PASS, ()
    rejects_by = frozenset[int]().union(*(defect.rejects_by for defect in found))
    if rejects_by:
        return Judgement.REJECT, _why(Reason.ABOVE_THRESHOLD, by_zone=any(rejects_by))
    counts = [sum(index in defect.counts_in for defect in found) for index in range(len(limits))]
    counts[0] = len(found)  # the view's own limit is for all of its defects
    too_many = [
        index
        for index, one in enumerate(limits)
        if one.reject_from_defects is not None and counts[index] >= one.reject_from_defects
    ]
    if too_many:
        return Judgement.REJECT, _why(Reason.TOO_MANY_DEFECTS, Reason.GRAY_ZONE, by_zone=any(too_many))
    by_zone = any(any(defect.counts_in) for defect in found)
    return Judgement.REVIEW, _why(Reason.GRAY_ZONE, by_zone=by_zone)


def _why(*reasons: Reason, by_zone: bool) -> tuple[Reason, ...]:
    return (*reasons, Reason.IN_ZONE) if by_zone else reasons


def judge(part: OpenPart, rules: Rules | None, line: str, now_ns: int) -> tuple[Verdict, list[bytes]]:
    """Return the verdict of a part and the payload beside it: the float16 maps that the recipe keeps of its views.

    `rules` is None when the station does not know how to judge the part. Whatever is missing or late is a FAULT.
    """
    trigger = part.trigger
    recipe = rules.recipe if rules else None
    if rules is None:
        views = tuple(
            View(camera=camera, verdict=Judgement.FAULT, reasons=(Reason.UNKNOWN_RECIPE,)) for camera in trigger.views
        )
    else:
        views = tuple(
            judge_view(camera, part.answers.get(camera), view, rules.limits[camera], rules.zones[camera])
            for camera, view in rules.recipe.views.items()
        )
    verdict, reasons = combine(views, recipe.reject_views if recipe else 1)
    if now_ns > trigger.deadline_ns and verdict is not Judgement.FAULT:
        verdict, reasons = Judgement.FAULT, (Reason.LATE,)  # right, and too late to be relied on
    keep = recipes.kept(recipe, verdict, trigger.sequence)
    if not keep.map:
        views = tuple(replace(view, map_shape=None) for view in views)
    payload = []
    for view in views:
        answer = part.answers.get(view.camera)
        if view.map_shape is not None and isinstance(answer, Scored):
            payload.append(answer.anomaly_map.astype(np.float16).tobytes())
    return (
        Verdict(
            part_id=trigger.part_id,
            sequence=trigger.sequence,
            station=trigger.station,
            line=line,
            recipe=trigger.recipe,
            recipe_version=recipe.version if recipe else 0,
            recipe_digest=rules.digest if rules else None,
            product=recipe.product if recipe else "",
            verdict=verdict,
            reasons=reasons,
            views=views,
            gate=_gate(verdict, recipe),
            trigger_ns=trigger.trigger_ns,
            trigger_time_ns=trigger.trigger_time_ns,
            deadline_ns=trigger.deadline_ns,
            judged_ns=now_ns,
            pixels=keep.pixels,
            truth=trigger.truth,
        ),
        payload,
    )


def combine(views: Sequence[View], reject_views: int) -> tuple[Judgement, tuple[Reason, ...]]:
    """Return the worst verdict of the views and its reasons; too few rejecting views make a REVIEW, never a PASS."""
    verdict = next((one for one in _WORST_FIRST if any(view.verdict is one for view in views)), Judgement.PASS)
    reasons = tuple(dict.fromkeys(reason for view in views if view.verdict is verdict for reason in view.reasons))
    if verdict is Judgement.REJECT and sum(view.verdict is Judgement.REJECT for view in views) < reject_views:
        return Judgement.REVIEW, (Reason.TOO_FEW_VIEWS, *reasons)
    return verdict, reasons


def _gate(verdict: Judgement, recipe: Recipe | None) -> GateCommand:
    if verdict is Judgement.PASS:
        return GateCommand.PASS
    if verdict is Judgement.REVIEW and recipe is not None:
        return recipe.review_gate
    if verdict is Judgement.FAULT and recipe is not None and recipe.fail_safe == "stop":
        return GateCommand.STOP
    return GateCommand.REJECT


def _fault(camera: str, reason: Reason, recipe: ViewRecipe, answer: Scored | None = None) -> View:
    return _view(camera, Judgement.FAULT, (reason,), recipe, answer, None, ())


def _view(
    camera: str,
    verdict: Judgement,
    reasons: tuple[Reason, ...],
    recipe: ViewRecipe,
    answer: Scored | None,
    score: float | None,
    found: tuple[Region, ...],
) -> View:
    seen = answer.prediction if answer else None
    has_map = seen is not None and score is not None
    return View(
        camera=camera,
        verdict=verdict,
        reasons=reasons,
        score=score,
        review_above=recipe.review_above,
        reject_above=recipe.reject_above,
        bundle_digest=seen.bundle_digest if seen else None,
        frame_shape=seen.frame_shape if seen else None,
        map_shape=seen.map_shape if seen and has_map else None,
        regions=found,
        worker=seen.worker if seen else None,
        batch_size=seen.batch_size if seen else None,
        received_ns=seen.received_ns if seen else None,
        started_ns=seen.started_ns if seen else None,
        finished_ns=seen.finished_ns if seen else None,
    )
