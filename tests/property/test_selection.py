from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.intervals import area_interval
from inference.training.selection import Point, choose, pareto, told_apart, trade_off, trend

values = st.tuples(st.integers(0, 100).map(lambda share: share / 100), st.integers(1, 50).map(float))
clouds = st.lists(values, min_size=1, max_size=25).map(
    lambda cloud: [Point(f"p{number}", *value) for number, value in enumerate(cloud)]
)


def beats(one: Point, other: Point) -> bool:
    """Tell by the definition, pair by pair."""
    return one.accuracy >= other.accuracy and one.cost <= other.cost and one[1:] != other[1:]


@given(clouds)
def test_the_pareto_set_is_all_that_no_other_beats(cloud: list[Point]) -> None:
    unbeaten = {point for point in cloud if not any(beats(other, point) for other in cloud)}
    assert set(pareto(cloud)) == unbeaten
    costs = [point.cost for point in pareto(cloud)]
    assert costs == sorted(costs)


@given(clouds)
def test_what_is_chosen_is_beaten_by_none_in_size_or_time(cloud: list[Point]) -> None:
    by_size = trade_off(cloud)
    by_time = trade_off([Point(point.name, point.accuracy, 51 - point.cost) for point in cloud])
    chosen = choose(by_size, by_time)
    assert chosen in {*by_size.pareto, *by_time.pareto}
    assert chosen == choose(by_size, by_time)


@given(st.floats(-1, 1), st.floats(-1, 1), st.lists(st.integers(-3, 3), min_size=3, max_size=9, unique=True))
def test_points_on_a_line_have_this_line_as_their_trend(intercept: float, slope: float, logs: list[int]) -> None:
    points = [Point(str(log), intercept + slope * log, 10.0**log) for log in logs]
    line = trend(points)
    assert line is not None
    assert line == pytest.approx((intercept, slope), abs=1e-9)
    raised = points[0]._replace(accuracy=points[0].accuracy + 0.5)
    assert line.above(raised) == pytest.approx(0.5)


@given(clouds)
def test_somebody_is_above_the_trend_where_there_is_one(cloud: list[Point]) -> None:
    found = trade_off(cloud)
    assert (found.trend is None) == (len(cloud) < 3 or len({point.cost for point in cloud}) == 1)
    assert (found.farthest_above is None) == (found.trend is None)
    if found.trend:
        assert math.fsum(map(found.trend.above, cloud)) == pytest.approx(0, abs=1e-9)
        best = next(point for point in cloud if point.name == found.farthest_above)
        assert found.trend.above(best) >= -1e-9


def test_without_a_trend_the_most_accurate_is_chosen_and_of_equals_the_quickest() -> None:
    sizes = trade_off([Point("slow", 0.9, 4.0), Point("quick", 0.9, 4.0)])
    times = trade_off([Point("slow", 0.9, 20.0), Point("quick", 0.9, 10.0)])
    assert choose(sizes, times) == "quick"


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_the_interval_of_an_area_holds_it_and_is_the_mirror_of_its_mirror(area: float, good: int, bad: int) -> None:
    low, high = area_interval(area, good, bad)
    assert 0 <= low <= area + 1e-9
    assert area - 1e-9 <= high <= 1
    mirrored = area_interval(1 - area, good, bad)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_the_interval_keeps_its_width_where_all_are_told_apart_and_narrows_with_more_images() -> None:
    widths = [area_interval(1.0, count, count) for count in (10, 100, 1000)]
    assert all(high == 1.0 for _, high in widths)
    assert widths[0][0] < widths[1][0] < widths[2][0] < 1


def test_images_tell_detectors_apart_where_there_are_enough_of_them() -> None:
    rng = np.random.default_rng(1)
    bad = np.arange(200) % 2 == 1
    good_one, poor_one = bad * 4.0 + rng.normal(size=200), bad * 0.5 + rng.normal(size=200)
    assert told_apart(good_one, poor_one, bad)
    assert not told_apart(good_one, good_one + 1e-3 * rng.normal(size=200), bad)
    assert not told_apart(good_one, good_one * 3 + 1, bad), "the same order is the same detector"
    perfect, one_wrong = bad.astype(float), bad.astype(float)
    one_wrong[1] = -1.0
    assert not told_apart(perfect, one_wrong, bad), "one image in a hundred is none in a third of the draws"
