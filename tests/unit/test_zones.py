"""Zones of a view: where they are, whose limits count, and what they mean for a part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from config import recipe as recipes
from config.errors import ConfigurationError
from config.messages import Judgement, Loss, Prediction, Reason, Trigger, Verdict
from config.recipe import Recipe
from decision.deadlines import OpenPart, Scored
from decision.rules import Rules, judge
from decision.zones import Picture, Polygon, Zones

FRAME = (80, 160, 3)  # a cell of the map (8, 16) is 10 x 10 px
LEFT = {"name": "left", "polygon_px": [[0, 0], [79, 0], [79, 79], [0, 79]]}
CENTRE = {"name": "centre", "polygon_px": [[40, 20], [119, 20], [119, 59], [40, 59]]}


def recipe(*zones: dict[str, object], views: tuple[str, ...] = ("front",), **changes: object) -> Recipe:
    view = {"bundle": "b", "review_above": 1.0, "reject_above": 2.0, "zones": zones}
    of_recipe = {name: changes.pop(name) for name in ("reject_views", "review_gate") if name in changes}
    return Recipe.model_validate(
        {"product": "bracket", "job": 1, "views": {camera: {**view, **changes} for camera in views}, **of_recipe}
    )


def judged(wanted: Recipe, *peaks: dict[tuple[int, int], float] | Reason, score: float | None = None) -> Verdict:
    """Judge a part, each view of which has cells of these values and 0 elsewhere, or no answer for this reason."""
    answers: dict[str, Scored | Loss] = {}
    for camera, cells in zip(wanted.views, peaks, strict=True):
        if isinstance(cells, Reason):
            answers[camera] = Loss(part_id="p", camera=camera, reason=cells)
            continue
        anomaly_map = np.zeros((8, 16), np.float32)
        for place, value in cells.items():
            anomaly_map[place] = value
        seen = prediction(camera, anomaly_map)
        answers[camera] = Scored(seen if score is None else replace(seen, score=score), anomaly_map)
    trigger = Trigger(
        part_id="p",
        sequence=7,
        station="s",
        camera="front",
        views=tuple(wanted.views),
        recipe="bracket",
        trigger_ns=10,
        trigger_time_ns=20,
        deadline_ns=30,
    )
    return judge(OpenPart(trigger, answers), Rules.load(wanted), "1", 25)[0]


def prediction(camera: str, anomaly_map: np.ndarray, frame_shape: tuple[int, int, int] = FRAME) -> Prediction:
    return Prediction(
        frame_id=f"p/{camera}",
        part_id="p",
        camera=camera,
        score=float(anomaly_map.max()),
        map_shape=anomaly_map.shape,
        frame_shape=frame_shape,
        bundle_digest="sha256:1",
        worker="w",
        batch_size=1,
        received_ns=1,
        started_ns=2,
        finished_ns=3,
    )


def test_a_zone_has_its_own_thresholds() -> None:
    wanted = recipe({**LEFT, "review_above": 5.0, "reject_above": 9.0})
    assert judged(wanted, {(3, 3): 4.0}).verdict is Judgement.PASS
    review = judged(wanted, {(3, 3): 6.0})
    assert (review.verdict, review.reasons) == (Judgement.REVIEW, (Reason.GRAY_ZONE, Reason.IN_ZONE))
    assert judged(wanted, {(3, 3): 9.5}).reasons == (Reason.ABOVE_THRESHOLD, Reason.IN_ZONE)
    assert judged(wanted, {(3, 12): 4.0}).reasons == (Reason.ABOVE_THRESHOLD,), "beside it the view's own count"


def test_a_region_over_two_zones_is_judged_by_the_stricter_one_wherever_its_peak_is() -> None:
    wanted = recipe({**LEFT, "review_above": 5.0, "reject_above": 9.0})
    lax_alone = {(3, 6): 8.0, (3, 7): 8.0}
    assert judged(wanted, lax_alone).verdict is Judgement.REVIEW
    assert judged(wanted, {**lax_alone, (3, 8): 2.5}).verdict is Judgement.REJECT
    (region,) = judged(wanted, {**lax_alone, (3, 8): 2.5}).views[0].regions
    assert (region.x_px, region.width_px, region.score) == (60, 30, 8.0), "it stays one region"


def test_a_region_counts_by_its_whole_area_in_every_zone_that_it_touches() -> None:
    wanted = recipe({**LEFT, "minimum_defect_area_px": 100}, minimum_defect_area_px=300)
    assert judged(wanted, {(3, 9): 1.5, (3, 10): 1.5}).verdict is Judgement.PASS
    assert judged(wanted, {(3, 9): 1.5, (3, 10): 1.5, (3, 11): 1.5}).verdict is Judgement.REVIEW
    assert judged(wanted, {(3, 8): 1.5, (3, 7): 1.5}).verdict is Judgement.REVIEW, "large enough for the zone"
    crossing = {(3, 7): 1.5, (3, 8): 2.5}
    assert judged(wanted, crossing).verdict is Judgement.REVIEW, "its peak lies where it is too small to count"


def test_areas_in_mm2_go_by_the_side_of_a_pixel_and_a_defect_of_exactly_the_minimum_counts() -> None:
    for minimum_mm2, verdict in ((1.0, Judgement.REVIEW), (1.01, Judgement.PASS)):
        wanted = recipe(minimum_defect_area_mm2=minimum_mm2, mm_per_px=0.1)  # a cell is 1 mm²
        assert judged(wanted, {(3, 3): 1.5}).verdict is verdict
    finer = recipe({**LEFT, "minimum_defect_area_mm2": 0.5}, minimum_defect_area_px=1000, mm_per_px=0.1)
    assert [one.minimum_area_px for one in finer.views["front"].limits()] == [1000, 50]


@pytest.mark.parametrize("mm_per_px", [0.1, 0.02, 0.03, 0.05, 0.07])
def test_a_minimum_that_is_a_whole_number_of_pixels_is_that_number(mm_per_px: float) -> None:
    for area_px in (*range(1, 30), 12345):
        area_mm2 = round(area_px * mm_per_px**2, 6)  # as a person writes it
        view = recipe(minimum_defect_area_mm2=area_mm2, mm_per_px=mm_per_px).views["front"]
        assert view.limits()[0].minimum_area_px == area_px


def test_where_it_is_excluded_nothing_counts_wherever_the_exclusion_stands() -> None:
    exclusion = {**LEFT, "name": "glare", "exclude": True}
    for zones in ((exclusion, CENTRE), (CENTRE, exclusion)):
        inside = judged(recipe(*zones), {(3, 5): 9.0})
        assert (inside.verdict, inside.views[0].score, inside.views[0].regions) == (Judgement.PASS, 0.0, ())
        assert judged(recipe(*zones), {(3, 5): 9.0, (3, 9): 1.5}).verdict is Judgement.REVIEW


def test_a_cell_is_left_out_only_if_all_of_it_is_and_belongs_to_a_zone_that_touches_it() -> None:
    almost = {"name": "x", "polygon_px": [[0, 0], [8, 0], [8, 9], [0, 9]]}
    assert judged(recipe({**almost, "exclude": True}), {(0, 0): 9.0}).verdict is Judgement.REJECT
    touching = {**almost, "polygon_px": [[9, 9], [9, 9], [9, 9]], "review_above": 0.1, "reject_above": 0.2}
    assert judged(recipe(touching), {(0, 0): 0.3}).verdict is Judgement.REJECT
    assert judged(recipe(touching), {(0, 1): 0.3}).verdict is Judgement.PASS


def test_of_overlapping_zones_the_first_named_counts() -> None:
    strict = {**LEFT, "review_above": 0.1, "reject_above": 0.2}
    lax = {**CENTRE, "review_above": 5.0, "reject_above": 9.0}
    assert judged(recipe(strict, lax), {(3, 5): 1.0}).verdict is Judgement.REJECT
    assert judged(recipe(lax, strict), {(3, 5): 1.0}).verdict is Judgement.PASS


def test_a_view_of_which_nothing_is_inspected_is_a_fault_and_not_a_pass() -> None:
    everything = {"name": "all", "polygon_px": [[0, 0], [159, 0], [159, 79], [0, 79]], "exclude": True}
    assert judged(recipe(everything), {}).reasons == (Reason.NOTHING_INSPECTED,)


def test_a_polygon_that_leaves_the_frame_is_a_fault_as_it_was_drawn_on_other_frames() -> None:
    for corner in ([160, 0], [0, 80]):
        found = judged(recipe({"name": "far", "polygon_px": [[0, 0], corner, [5, 5]], "exclude": True}), {})
        assert (found.verdict, found.reasons) == (Judgement.FAULT, (Reason.WRONG_FRAME,))


def test_masks_cover_the_frame_whatever_their_own_size(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[:, :2] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    by_mask = {"name": "left", "mask": tmp_path / "left.png", "review_above": 5.0, "reject_above": 9.0}
    by_polygon = {**LEFT, "review_above": 5.0, "reject_above": 9.0}
    for column in range(16):
        found = [judged(recipe(zone), {(3, column): 3.0}).verdict for zone in (by_mask, by_polygon)]
        assert found == [Judgement.PASS if column < 8 else Judgement.REJECT] * 2


def test_a_score_that_no_map_shows_is_judged_by_the_strictest_limits_also_beside_an_roi() -> None:
    strict = {**LEFT, "review_above": 0.1, "reject_above": 0.2}
    found = judged(recipe(strict), {}, score=0.15)
    assert (found.verdict, found.views[0].score) == (Judgement.REVIEW, 0.15)
    assert found.views[0].regions[0].area_px == 80 * 160
    excluded = {**LEFT, "exclude": True}
    assert judged(recipe(excluded), {(3, 3): 9.0}).verdict is Judgement.PASS
    assert judged(recipe(excluded), {(3, 3): 9.0}, score=9.5).verdict is Judgement.REJECT


def test_many_defects_in_the_gray_zone_reject_though_none_of_them_does() -> None:
    wanted = recipe(reject_from_defects=3, minimum_defect_area_px=100)
    two = {(1, 1): 1.5, (1, 4): 1.5}
    assert judged(wanted, two).verdict is Judgement.REVIEW
    three = judged(wanted, {**two, (6, 6): 1.2})
    assert (three.verdict, three.reasons) == (Judgement.REJECT, (Reason.TOO_MANY_DEFECTS, Reason.GRAY_ZONE))
    too_small = recipe(reject_from_defects=3, minimum_defect_area_px=101)
    assert judged(too_small, {**two, (6, 6): 1.2}).verdict is Judgement.PASS, "only what counts is counted"


def test_a_zone_counts_its_own_defects_and_the_view_all_of_them() -> None:
    wanted = recipe({**LEFT, "reject_from_defects": 2}, reject_from_defects=4)
    right = {(1, 10): 1.5, (1, 12): 1.5, (1, 14): 1.5}
    assert judged(wanted, right).verdict is Judgement.REVIEW
    assert judged(wanted, {**right, (1, 1): 1.5}).reasons == (Reason.TOO_MANY_DEFECTS, Reason.GRAY_ZONE)
    in_zone = judged(wanted, {(1, 1): 1.5, (1, 4): 1.5})
    assert in_zone.reasons == (Reason.TOO_MANY_DEFECTS, Reason.GRAY_ZONE, Reason.IN_ZONE)


def test_fewer_rejecting_views_than_asked_for_are_a_review_and_a_fault_stays_one() -> None:
    three = ("front", "back", "top")
    wanted = recipe(views=three, reject_views=2)
    bad, gray, good = {(1, 1): 9.0}, {(1, 1): 1.5}, dict[tuple[int, int], float]()
    one = judged(wanted, bad, good, gray)
    assert (one.verdict, one.reasons) == (Judgement.REVIEW, (Reason.TOO_FEW_VIEWS, Reason.ABOVE_THRESHOLD))
    assert judged(wanted, bad, good, bad).verdict is Judgement.REJECT
    assert judged(wanted, bad, bad, Reason.OVERRUN).reasons == (Reason.OVERRUN,)
    assert judged(recipe(views=three, reject_views=2, review_gate="PASS"), bad, good, good).gate == "PASS"


@pytest.mark.parametrize(
    ("zone", "changes", "says"),
    [
        ({"name": "x"}, {}, "needs polygon_px or mask"),
        ({**LEFT, "mask": "m.png"}, {}, "needs polygon_px or mask"),
        ({**LEFT, "exclude": True, "review_above": 1.0}, {}, "review_above has no meaning"),
        ({**LEFT, "review_above": 3.0}, {}, "zone 'left': review_above 3.0 must not exceed reject_above 2.0"),
        (
            {**LEFT, "minimum_defect_area_mm2": 3.0},
            {},
            "zone 'left': minimum_defect_area_mm2 needs the view's mm_per_px",
        ),
        ({**LEFT, "polygon_px": [[0, 0], [5, 5]]}, {}, "at least 3"),
        ({**LEFT, "polygon_px": [[0, 0], [5, -5], [1, 1]]}, {}, "polygon_px.1.1"),
        (LEFT, {"minimum_defect_area_mm2": 3.0}, "needs the view's mm_per_px"),
        (LEFT, {"minimum_defect_area_mm2": 3.0, "minimum_defect_area_px": 3, "mm_per_px": 1.0}, "give one of them"),
        (LEFT, {"mm_per_px": 0.0}, "mm_per_px"),
        (LEFT, {"reject_views": 2}, "must not exceed the number of views, 1"),
        (LEFT, {"reject_from_defects": 0}, "reject_from_defects"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(
    write_recipe: Callable[[dict[str, object]], Path], zone: dict[str, object], changes: dict[str, object], says: str
) -> None:
    of_recipe = {name: changes[name] for name in ("reject_views",) if name in changes}
    of_view = {name: value for name, value in changes.items() if name not in of_recipe}
    view = {"bundle": "b", "review_above": 1.0, "reject_above": 2.0, "zones": [zone], **of_view}
    path = write_recipe({"product": "p", "job": 1, "views": {"front": view}, **of_recipe})
    with pytest.raises(ConfigurationError, match=rf"r\.json: .*{says}"):
        recipes.read(path)


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    def write(said: dict[str, object]) -> Path:
        (tmp_path / "r.json").write_text(json.dumps(said))
        return tmp_path / "r.json"

    return write


def test_two_zones_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="names must differ"):
        recipe(LEFT, LEFT)


def test_pictures_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "roi.png"
    cv2.imwrite(str(path), np.full((4, 4), 255, np.uint8))
    assert Picture.read(path).pixels.shape == (4, 4)
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigurationError, match="black all over"):
        Picture.read(path)
    path.write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match="not a readable picture"):
        Picture.read(path)


def test_cells_are_worked_out_once_for_each_size() -> None:
    zones = Zones(None, [], [Polygon(((0, 0), (9, 0), (9, 9)))])
    first = zones.cells((8, 16), (80, 160))
    assert zones.cells((8, 16), (80, 160)) is first
    assert zones.cells((4, 4), (80, 160)) is not first
