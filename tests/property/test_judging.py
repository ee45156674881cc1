"""Whatever the map and the recipe: the verdict is the manual's, more anomaly is never milder, order does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec.structs import replace

from config.messages import GateCommand, Judgement, Prediction, Trigger, Verdict
from config.recipe import Limits, Recipe
from decision.deadlines import OpenPart, Scored
from decision.rules import Rules, judge

ROWS, COLUMNS, CELL_PX = 6, 7, 5
FRAME = (ROWS * CELL_PX, COLUMNS * CELL_PX, 3)
RANK = {Judgement.PASS: 0, Judgement.REVIEW: 1, Judgement.REJECT: 2}

Map = npt.NDArray[np.float32]
Said = dict[str, Any]

# few values, so that many cells are alike and thresholds are met exactly
LEVELS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0])
MAPS = arrays.arrays(np.float32, (ROWS, COLUMNS), elements=LEVELS.map(np.float32), fill=st.just(np.float32(0)))


@st.composite
def boxes(draw: st.DrawFn) -> list[list[int]]:
    left, right = sorted((draw(st.integers(0, FRAME[1] - 1)), draw(st.integers(0, FRAME[1] - 1))))
    top, bottom = sorted((draw(st.integers(0, FRAME[0] - 1)), draw(st.integers(0, FRAME[0] - 1))))
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


@st.composite
def limits(draw: st.DrawFn, *, counting: bool) -> Said:
    review, reject = sorted((draw(LEVELS), draw(LEVELS)))
    said: Said = {"review_above": review, "reject_above": reject}
    said["minimum_defect_area_px"] = CELL_PX**2 * draw(st.integers(0, 3))
    if counting and draw(st.booleans()):
        said["reject_from_defects"] = draw(st.integers(1, 4))
    return said


@st.composite
def views(draw: st.DrawFn, *, counting: bool = True, zones: int = 4) -> Said:
    found = []
    for number in range(draw(st.integers(0, zones))):
        zone = {"name": f"z{number}", "polygon_px": draw(boxes())}
        exclude = draw(st.integers(0, 3)) == 0
        found.append({**zone, "exclude": True} if exclude else {**zone, **draw(limits(counting=counting))})
    return {"bundle": "b", **draw(limits(counting=counting)), "zones": found}


def rules(*said: Said, **changes: object) -> Rules:
    named = {f"camera{number}": view for number, view in enumerate(said)}
    return Rules.load(Recipe.model_validate({"product": "p", "job": 1, "views": named, **changes}))


def judged(by: Rules, *maps: Map) -> Verdict:
    answers = {
        camera: Scored(
            Prediction(
                frame_id=f"p/{camera}",
                part_id="p",
                camera=camera,
                score=float(anomaly_map.max()),
                map_shape=(ROWS, COLUMNS),
                frame_shape=FRAME,
                bundle_digest="d",
                worker="w",
                batch_size=1,
                received_ns=0,
                started_ns=0,
                finished_ns=0,
            ),
            anomaly_map,
        )
        for camera, anomaly_map in zip(by.recipe.views, maps, strict=True)
    }
    trigger = Trigger(
        part_id="p",
        sequence=0,
        station="s",
        camera="camera0",
        views=tuple(answers),
        recipe="p",
        trigger_ns=0,
        trigger_time_ns=0,
        deadline_ns=9,
    )
    return judge(OpenPart(trigger, answers), by, "1", 5)[0]


def places(said: Said) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int_]]:
    """Say of each cell, box by box: whether it is inspected, and by whose limits it is judged."""
    inspected = np.ones((ROWS, COLUMNS), np.bool_)
    owner = np.zeros((ROWS, COLUMNS), np.int_)
    judged_zones = [zone for zone in said["zones"] if not zone.get("exclude")]
    for row, column in np.ndindex(ROWS, COLUMNS):
        x, y = column * CELL_PX, row * CELL_PX  # of the cell's first pixel
        for zone in said["zones"]:
            (left, top), _, (right, bottom), _ = zone["polygon_px"]
            whole = left <= x and x + CELL_PX - 1 <= right and top <= y and y + CELL_PX - 1 <= bottom
            if zone.get("exclude") and whole:
                inspected[row, column] = False
        for number, zone in enumerate(judged_zones, 1):
            (left, top), _, (right, bottom), _ = zone["polygon_px"]
            touches = left < x + CELL_PX and x <= right and top < y + CELL_PX and y <= bottom
            if touches and owner[row, column] == 0:
                owner[row, column] = number
    return inspected, owner


def connected(cells: set[tuple[int, int]]) -> Iterator[set[tuple[int, int]]]:
    left = set(cells)
    while left:
        region, edge = set[tuple[int, int]](), {left.pop()}
        while edge:
            region |= edge
            edge = {
                (row + up, column + across)
                for row, column in edge
                for up in (-1, 0, 1)
                for across in (-1, 0, 1)
                if (row + up, column + across) in left
            }
            left -= edge
        yield region


def expected(said: Said, by: tuple[Limits, ...], anomaly_map: Map) -> Judgement:
    """Judge a view cell by cell as the manual says it."""
    inspected, owner = places(said)
    if not inspected.any():
        return Judgement.FAULT
    cells = {
        (row, column)
        for row in range(ROWS)
        for column in range(COLUMNS)
        if inspected[row, column] and anomaly_map[row, column] > by[owner[row, column]].review_above
    }
    counts, rejects, regions = [0] * len(by), False, 0
    for region in connected(cells):
        area_px = len(region) * CELL_PX**2
        large = {owner[cell] for cell in region if area_px >= by[owner[cell]].minimum_area_px}
        rejects |= any(owner[cell] in large and anomaly_map[cell] > by[owner[cell]].reject_above for cell in region)
        regions += bool(large)
        for index in large:
            counts[index] += 1
    counts[0] = regions
    too_many = any(
        one.reject_from_defects is not None and count >= one.reject_from_defects
        for count, one in zip(counts, by, strict=True)
    )
    if rejects or (regions and too_many):
        return Judgement.REJECT
    return Judgement.REVIEW if regions else Judgement.PASS


@given(views(), MAPS)
@settings(max_examples=250, deadline=None)
def test_the_verdict_is_what_the_manual_says_cell_by_cell(said: Said, anomaly_map: Map) -> None:
    by = rules(said)
    found = judged(by, anomaly_map)
    assert found.verdict is expected(said, by.limits["camera0"], anomaly_map)
    assert (found.gate is GateCommand.PASS) == (found.verdict is Judgement.PASS)
    assert (found.verdict in {Judgement.REVIEW, Judgement.REJECT}) == bool(found.views[0].regions)
    assert judged(rules(said), anomaly_map) == found, "the same answers and recipe, the same verdict"


@given(st.lists(views(counting=False), min_size=1, max_size=3), st.data())
@settings(max_examples=150, deadline=None)
def test_more_anomaly_never_gives_a_milder_verdict(said: list[Said], data: st.DataObject) -> None:
    by = rules(*said, reject_views=data.draw(st.integers(1, len(said))))
    before = [data.draw(MAPS) for _ in said]
    after = [np.maximum(one, data.draw(MAPS)) for one in before]
    mild, worse = judged(by, *before).verdict, judged(by, *after).verdict
    assert (mild is Judgement.FAULT) == (worse is Judgement.FAULT), "which only the recipe makes here"
    assert mild is Judgement.FAULT or RANK[worse] >= RANK[mild]


@given(views(), MAPS, MAPS)
@settings(max_examples=120, deadline=None)
def test_what_is_excluded_never_matters(said: Said, anomaly_map: Map, other: Map) -> None:
    inspected, _ = places(said)
    by = rules(said)
    one, two = judged(by, anomaly_map), judged(by, np.where(inspected, anomaly_map, other))
    assert one == two


@given(views(), MAPS, st.data())
@settings(max_examples=120, deadline=None)
def test_the_order_matters_only_among_judged_zones_that_share_a_cell(
    said: Said, anomaly_map: Map, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(said["zones"]))
    again = {**said, "zones": shuffled}
    names = [[zone["name"] for zone in one["zones"] if not zone.get("exclude")] for one in (said, again)]
    owners = [places(one)[1] for one in (said, again)]
    named = [np.array(["", *listed])[owner] for listed, owner in zip(names, owners, strict=True)]
    if (named[0] == named[1]).all():
        one, two = (replace(judged(rules(each), anomaly_map), recipe_digest=None) for each in (said, again))
        assert one == two


@given(views(), MAPS, st.integers(2, 4))
@settings(max_examples=100, deadline=None)
def test_a_higher_minimum_and_higher_thresholds_are_never_stricter(said: Said, anomaly_map: Map, times: int) -> None:
    def milder(one: Said) -> Said:
        changed = {name: one[name] * times for name in ("review_above", "reject_above", "minimum_defect_area_px")}
        return {**one, **changed}

    zones = [zone if zone.get("exclude") else {**zone, "minimum_defect_area_px": 10**6} for zone in said["zones"]]
    strict, mild = rules(said), rules(milder({**said, "zones": zones}))
    ranks = [RANK.get(judged(by, anomaly_map).verdict) for by in (strict, mild)]
    assert ranks[0] is None or ranks[1] is None or ranks[1] <= ranks[0]
