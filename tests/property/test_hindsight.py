"""Whatever the map, and whatever was kept of it: what hindsight tells is what the decision stage gives, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_judging import COLUMNS, LEVELS, ROWS, judged, limits, rules, views

from config.messages import Judgement, Verdict
from decision.hindsight import Hindsight, SeenPart, SeenView, Told, Why
from decision.rules import Rules

# levels that thresholds meet exactly, and values a float16 cannot say, some of them just beside those
CELLS = st.one_of(LEVELS, st.sampled_from([1.0001, 0.9999, 2.0003]), st.floats(0, 4.5, width=32)).map(np.float32)
MAPS = arrays.arrays(np.float32, (ROWS, COLUMNS), elements=CELLS, fill=st.just(np.float32(0.25)))
KEPT = st.sampled_from(["map", "score"])


def seen(verdict: Verdict, then: Rules, kept: tuple[str, ...], maps: tuple[npt.NDArray[np.float32], ...]) -> SeenPart:
    found = []
    for view, how, anomaly_map in zip(verdict.views, kept, maps, strict=True):
        half = anomaly_map.astype(np.float16) if how == "map" else None
        found.append(SeenView(view.camera, view.score, view.frame_shape, view.bundle_digest, half))
    return SeenPart(verdict.verdict, verdict.reasons, tuple(found), then)


def told(part: SeenPart, by: Rules) -> Told:
    return Hindsight([part], lambda _: (ROWS, COLUMNS)).judge(by)[0]


@st.composite
def plain(draw: st.DrawFn, *, counting: bool = True) -> dict[str, Any]:
    return {"bundle": "b", **draw(limits(counting=counting)), "zones": []}


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(plain(), views()), st.one_of(plain(), views()), MAPS, KEPT), min_size=1, max_size=2),
    st.data(),
)
def test_told_is_what_the_decision_stage_gives(
    said: list[tuple[dict[str, Any], dict[str, Any], npt.NDArray[np.float32], str]], data: st.DataObject
) -> None:
    befores, afters, maps, kept = zip(*said, strict=True)
    needed = data.draw(st.integers(1, len(said)))
    then, now = rules(*befores, reject_views=needed), rules(*afters, reject_views=needed)
    recorded, truly = judged(then, *maps), judged(now, *maps)
    part = seen(recorded, then, kept, maps)
    again = told(part, then)
    assert again.verdict in {None, recorded.verdict}
    found = told(part, now)
    if recorded.verdict is Judgement.FAULT:
        assert found == Told(None, Why.NOT_JUDGED)  # the recipe left nothing to inspect
    else:
        assert found.verdict in {None, truly.verdict}


@settings(max_examples=60, deadline=None)
@given(views(), views(), arrays.arrays(np.float16, (ROWS, COLUMNS), elements=LEVELS.map(np.float16)))
def test_a_map_that_lost_nothing_tells_all_but_what_lies_on_a_threshold(
    before: dict[str, Any], after: dict[str, Any], kept: npt.NDArray[np.float16]
) -> None:
    """Cells stand at 0, 0.5, 1, …: between them, no rounding is in doubt, so nothing is left open."""
    for view in (before, after):
        for limited in (view, *(zone for zone in view["zones"] if not zone.get("exclude"))):
            limited["review_above"] += 0.25
            limited["reject_above"] += 0.25
    maps = (kept.astype(np.float32),)
    then, now = rules(before), rules(after)
    recorded = judged(then, *maps)
    if recorded.verdict is not Judgement.FAULT:
        assert told(seen(recorded, then, ("map",), maps), now).verdict is judged(now, *maps).verdict


@settings(max_examples=60, deadline=None)
@given(plain(counting=False), plain(counting=False), MAPS)
def test_a_score_alone_tells_all_where_thresholds_are_moved(
    before: dict[str, Any], after: dict[str, Any], anomaly_map: npt.NDArray[np.float32]
) -> None:
    before["minimum_defect_area_px"] = after["minimum_defect_area_px"] = 0
    then, now = rules(before), rules(after)
    part = seen(judged(then, anomaly_map), then, ("score",), (anomaly_map,))
    assert told(part, now).verdict is judged(now, anomaly_map).verdict


def test_why_nothing_is_told() -> None:
    said: dict[str, Any] = {"bundle": "b", "review_above": 1.0, "reject_above": 2.0, "zones": []}
    then = rules(said)
    anomaly_map = np.zeros((ROWS, COLUMNS), np.float32)
    anomaly_map[1, 1] = 1.5
    part = seen(judged(then, anomaly_map), then, ("score",), (anomaly_map,))
    larger = rules({**said, "minimum_defect_area_px": 26})
    assert told(part, larger) == Told(None, Why.NO_MAP)  # perhaps it is one cell, perhaps more
    assert told(part, rules({**said, "minimum_defect_area_px": 25})) == Told(Judgement.REVIEW)
    assert told(part, rules({**said, "bundle_digest": "sha256:other"})) == Told(None, Why.OTHER_BUNDLE)
    assert told(SeenPart(part.verdict, part.reasons, part.views, None), then) == Told(None, Why.RECIPE_LOST)
    assert Hindsight([part], lambda _: None).judge(then) == [Told(None, Why.NO_MAP)]
    anomaly_map[1, 2] = 1.00001  # as a float16 it is 1.0
    joined = seen(judged(then, anomaly_map), then, ("map",), (anomaly_map,))
    assert told(joined, larger) == Told(None, Why.ROUNDED)
    assert told(joined, rules({**said, "minimum_defect_area_px": 51})) == Told(Judgement.PASS)
