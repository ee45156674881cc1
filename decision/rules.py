"""From what is known of a part to its verdict. Pure and deterministic: the same answers and recipe, the same verdict.

A detector's score is the maximum of its anomaly map, so one threshold serves both: a view is rejected because of the
regions of its map above the threshold, and those that lie outside the ROI or are too small do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np
from msgspec.structs import replace

from config import recipe as recipes
from config.errors import ConfigurationError
from config.messages import GateCommand, Judgement, Loss, Reason, Region, Verdict, View
from decision.deadlines import OpenPart, Scored

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from config.recipe import Recipe, ViewRecipe

    Map = npt.NDArray[np.float32]
    Mask = npt.NDArray[np.uint8]

_WORST_FIRST = (Judgement.FAULT, Judgement.REJECT, Judgement.REVIEW)
_WHITE = 128


class Roi:
    """An ROI picture `(H, W)` uint8, white is inspected; what it means for a map is worked out once for each size."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._cells: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}

    def cells(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Return which cells of a map `(h, w)` are inspected."""
        if shape not in self._cells:
            self._cells[shape] = inside(self.mask, shape)
        return self._cells[shape]


def read_roi(path: Path) -> Roi:
    """Read an ROI picture; raise ConfigurationError if it cannot be read or inspects nothing."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ConfigurationError(f"{path}: not a readable picture; an ROI is grey, white where it is inspected")
    if not (mask >= _WHITE).any():
        raise ConfigurationError(f"{path}: the ROI is black all over, so nothing would be inspected")
    return Roi(np.asarray(mask, np.uint8))


@dataclass(frozen=True)
class Rules:
    """A recipe ready to judge by: its ROI pictures are read and its content is named."""

    recipe: Recipe
    digest: str
    rois: dict[str, Roi]

    @classmethod
    def load(cls, recipe: Recipe) -> Self:
        """Read what a recipe names; raise ConfigurationError for any fault."""
        rois = {camera: read_roi(view.roi) for camera, view in recipe.views.items() if view.roi}
        return cls(recipe, recipes.digest(recipes.content(recipe)), rois)


def inside(mask: Mask, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which cells of a map `(h, w)` touch the ROI: a cell counts if any of its pixels does."""
    rows, columns = shape
    height, width = mask.shape
    integral = cv2.integral((mask >= _WHITE).astype(np.uint8))
    top, bottom = np.arange(rows) * height // rows, -(-(np.arange(rows) + 1) * height // rows)
    left, right = np.arange(columns) * width // columns, -(-(np.arange(columns) + 1) * width // columns)
    counted = integral[np.ix_(bottom, right)] - integral[np.ix_(top, right)]
    counted -= integral[np.ix_(bottom, left)] - integral[np.ix_(top, left)]
    return np.asarray(counted > 0)


def regions(anomaly_map: Map, above: float, frame_shape: tuple[int, int, int]) -> tuple[Region, ...]:
    """Return the 8-connected regions of `anomaly_map` `(h, w)` above a threshold in frame pixels, worst first."""
    over = (anomaly_map > np.float64(above)).astype(np.uint8)  # a plain float would be rounded to float32 first
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    rows, columns = anomaly_map.shape
    height, width = frame_shape[:2]
    found = []
    for label in range(1, count):
        left, top, across, down, cells = (int(value) for value in stats[label])
        x_px, y_px = left * width // columns, top * height // rows
        found.append(
            Region(
                x_px=x_px,
                y_px=y_px,
                width_px=max(1, (left + across) * width // columns - x_px),
                height_px=max(1, (top + down) * height // rows - y_px),
                area_px=max(1, round(cells * (height / rows) * (width / columns))),
                score=float(anomaly_map[labels == label].max()),
            )
        )
    return tuple(sorted(found, key=lambda region: -region.score))


def judge_view(camera: str, answer: Scored | Loss | None, recipe: ViewRecipe, roi: Roi | None) -> View:
    """Judge one view; no answer is LATE."""
    if not isinstance(answer, Scored):
        return _fault(camera, answer.reason if answer else Reason.LATE, recipe)
    seen, anomaly_map = answer.prediction, answer.anomaly_map
    if recipe.bundle_digest is not None and seen.bundle_digest != recipe.bundle_digest:
        return _fault(camera, Reason.WRONG_BUNDLE, recipe, answer)
    score = seen.score
    if score is None or not math.isfinite(score) or not np.isfinite(anomaly_map).all():
        return _fault(camera, Reason.NOT_FINITE, recipe, answer)
    if roi is not None:
        anomaly_map = np.where(roi.cells(seen.map_shape), anomaly_map, np.float32(-np.inf))
        score = float(anomaly_map.max())
    found = regions(anomaly_map, recipe.review_above, seen.frame_shape)
    if not found and score > recipe.review_above:
        # A map that does not show what the score says: take the whole frame rather than let it pass.
        height, width = seen.frame_shape[:2]
        found = (Region(x_px=0, y_px=0, width_px=width, height_px=height, area_px=height * width, score=score),)
    counted = tuple(region for region in found if region.area_px >= recipe.minimum_defect_area_px)
    verdict = Judgement.PASS
    reasons: tuple[Reason, ...] = ()
    if counted and counted[0].score > recipe.reject_above:
        verdict, reasons = Judgement.REJECT, (Reason.ABOVE_THRESHOLD,)
    elif counted:
        verdict, reasons = Judgement.REVIEW, (Reason.GRAY_ZONE,)
    return _view(camera, verdict, reasons, recipe, answer, score, counted)


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
            judge_view(camera, part.answers.get(camera), view, rules.rois.get(camera))
            for camera, view in rules.recipe.views.items()
        )
    verdict = next((one for one in _WORST_FIRST if any(view.verdict is one for view in views)), Judgement.PASS)
    reasons = tuple(dict.fromkeys(reason for view in views if view.verdict is verdict for reason in view.reasons))
    if now_ns > trigger.deadline_ns and verdict is not Judgement.FAULT:
        verdict, reasons = Judgement.FAULT, (Reason.LATE,)  # right, and too late to be relied on
    if not recipes.kept(recipe, verdict, trigger.sequence).map:
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
            truth=trigger.truth,
        ),
        payload,
    )


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
