"""`andon recipe check`: a recipe file with all that it names, validated whole, and what it means for a part."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from config import recipe as recipes
from config.recipe import Alarms, Recipe
from decision.rules import Rules
from decision.zones import Cells
from deploy import stations
from inference.bundle import Bundle
from inference.keys import TrustStore


@dataclass(frozen=True)
class Place:
    """The view as a whole (no name) or a zone: its limits, and the share of the map's cells that they hold for."""

    name: str | None
    review_above: float
    reject_above: float
    minimum_area_px: int
    minimum_area_mm2: float | None
    reject_from_defects: int | None
    share_of_map: float | None  # None: that cannot be said


@dataclass(frozen=True)
class Meaning:
    """What a view of the recipe means on the frames that its bundle was taught with."""

    bundle: str
    bundle_digest: str
    pinned: bool
    frame_px: tuple[int, int]  # height, width
    map_cells: tuple[int, int]
    cell_area_px: float
    not_inspected: float | None  # share of the map's cells
    places: tuple[Place, ...]
    warnings: tuple[str, ...]


def check(arguments: argparse.Namespace) -> int:
    """Check a recipe file and tell what it means; raise ConfigurationError for whatever is wrong with it."""
    recipe = recipes.read(arguments.recipe)
    rules = Rules.load(recipe)
    bundles = stations.bundles_of(recipe, TrustStore.load(extra=stations.DEMO_KEYS))
    meanings = {camera: _meaning(rules, camera, bundle) for camera, bundle in bundles.items()}
    if arguments.json:
        said = recipe.model_dump(mode="json", exclude={"views"})
        views = {camera: asdict(meaning) for camera, meaning in meanings.items()}
        sys.stdout.write(json.dumps({"recipe": str(arguments.recipe), "digest": rules.digest, **said, "views": views}))
        sys.stdout.write("\n")
        return 0
    for line in _lines(rules, meanings):
        sys.stdout.write(f"{line}\n")
    return 0


def _meaning(rules: Rules, camera: str, bundle: Bundle) -> Meaning:
    view, manifest = rules.recipe.views[camera], bundle.manifest
    frame, shape = (manifest.frame_height_px, manifest.frame_width_px), (manifest.map_height, manifest.map_width)
    cells = rules.zones[camera].cells(shape, frame)
    shares = _shares(cells, shape, len(rules.limits[camera]))
    warnings = []
    if view.bundle_digest is None:
        warnings.append("bundle_digest is not given: whatever bundle lies there is judged by")
    if cells is None:
        warnings.append(
            f"a polygon leaves the frames that the bundle was taught with ({frame[1]} x {frame[0]} px): on such frames "
            "every part is a FAULT, WRONG_FRAME"
        )
    elif not any(shares or ()):
        warnings.append("ROI and exclusions leave nothing to inspect: every part is a FAULT, NOTHING_INSPECTED")
    places = []
    for index, one in enumerate(rules.limits[camera]):
        share = shares[index] if shares is not None else None
        if share == 0 and index:
            warnings.append(
                f"zone {one.name!r} has no cell of the map: others before it, exclusions or the ROI cover it"
            )
        area_mm2 = one.minimum_area_px * view.mm_per_px**2 if view.mm_per_px is not None else None
        limits = (one.name, one.review_above, one.reject_above, one.minimum_area_px, area_mm2, one.reject_from_defects)
        places.append(Place(*limits, share))
    return Meaning(
        bundle=str(view.bundle),
        bundle_digest=bundle.digest,
        pinned=view.bundle_digest is not None,
        frame_px=frame,
        map_cells=shape,
        cell_area_px=round(frame[0] / shape[0] * frame[1] / shape[1], 1),
        not_inspected=None if shares is None else round(1 - sum(shares), 4),
        places=tuple(places),
        warnings=tuple(warnings),
    )


def _shares(cells: Cells | None, shape: tuple[int, int], limits: int) -> list[float] | None:
    if cells is None:
        return None
    of_limits = np.zeros(shape, np.intp) if cells.limits is None else cells.limits
    inspected = of_limits if cells.inspected is None else of_limits[cells.inspected]
    counted = np.bincount(inspected.ravel(), minlength=limits)
    return [round(count / of_limits.size, 4) for count in counted.tolist()]


def _lines(rules: Rules, meanings: dict[str, Meaning]) -> Iterator[str]:
    recipe = rules.recipe
    yield f"product {recipe.product}, job {recipe.job}, version {recipe.version}"
    yield f"digest {rules.digest}"
    yield f"a part: {_part(recipe)}"
    yield f"alarms: {_alarms(recipe.alarms)}"
    for camera, meaning in meanings.items():
        height, width = meaning.frame_px
        rows, columns = meaning.map_cells
        yield f"view {camera}: {meaning.bundle}"
        yield (
            f"  frames {width} x {height} px, map {columns} x {rows}: a region is a number of cells of "
            f"{meaning.cell_area_px:g} px"
        )
        for place in meaning.places:
            yield f"  {_place(place, alone=len(meaning.places) == 1)}"
        if meaning.not_inspected:
            yield f"  not inspected: {meaning.not_inspected:.1%} of the map"
        yield from (f"  WARNING: {warning}" for warning in meaning.warnings)


def _part(recipe: Recipe) -> str:
    said = f"judged within {recipe.deadline_ms} ms; "
    if recipe.reject_views > 1:
        said += f"REJECT from {recipe.reject_views} rejecting views on, REVIEW below; "
    stop = " and asks for a stop of the line" if recipe.fail_safe == "stop" else ""
    return f"{said}at the gate a REVIEW counts as {recipe.review_gate}, a FAULT is ejected{stop}"


def _alarms(alarms: Alarms) -> str:
    said = []
    if alarms.consecutive_rejects is not None:
        said.append(f"{alarms.consecutive_rejects} rejects in a row")
    if alarms.reject_rate is not None:
        rate = alarms.reject_rate
        said.append(
            f"more than {rate.above:.1%} of the last {rate.over_parts} parts, until below {rate.clear_below:.1%}"
        )
    if not said:
        return "none"
    return "; ".join(said) + ("; they ask for a stop of the line" if alarms.stop_line else "")


def _place(place: Place, *, alone: bool) -> str:
    view = "everywhere" if alone else "everywhere else"
    name = view if place.name is None else f"zone {place.name}"
    share = "" if place.share_of_map is None else f" ({place.share_of_map:.1%} of the map)"
    said = f"{name}{share}: PASS up to {place.review_above:g}, REVIEW up to {place.reject_above:g}, REJECT beyond"
    if place.minimum_area_px:
        area_mm2 = "" if place.minimum_area_mm2 is None else f" ({place.minimum_area_mm2:.3g} mm²)"
        said += f"; counts from {place.minimum_area_px} px{area_mm2}"
    if place.reject_from_defects is not None:
        where = "of the whole view " if place.name is None else ""
        said += f"; {place.reject_from_defects} defects {where}make a REJECT"
    return said
