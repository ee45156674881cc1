"""Change points: how often they are found where there are none, where they are put, and how sure that is.

What is random is tried over a fixed range of seeds, none left out, and judged by what chance allows all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from storage.query import changes
from storage.query.changes import Change, Floats, Series

Draw = Callable[[np.random.Generator], Series]


def most_by_chance(trials: int, rate: float, doubt: float = 1e-4) -> int:
    """Return how many of `trials` happen at most but in `doubt` of all cases."""
    term = (1 - rate) ** trials
    below, events = term, 0
    while below < 1 - doubt:
        term *= (trials - events) / (events + 1) * rate / (1 - rate)
        events += 1
        below += term
    return events


HIGHEST_THRESHOLD = 4.5  # of |z|, for 3000 parts: `changes` takes less for significant


def expected_z(before: int, after: int, rate: float, rate_after: float) -> float:
    """Return what the signed root of the likelihood ratio is about at a planted change."""
    pooled = (before * rate + after * rate_after) / (before + after)
    return abs(rate_after - rate) / math.sqrt(pooled * (1 - pooled) * (1 / before + 1 / after))


def bits(rng: np.random.Generator, parts: int, rate: float | Floats) -> Series:
    return changes.rates(np.ones(parts), (rng.random(parts) < rate).astype(float))


def step(parts: int, at: int, before: float, after: float) -> Floats:
    return np.where(np.arange(parts) < at, before, after)


def skewed(rng: np.random.Generator, parts: int, before: float, at: int, after: float) -> Floats:
    """Return scores as lines have them: most are low, the tail is long, some are far out."""
    u, v, w = rng.random((3, parts))
    return step(parts, at, before, after) + np.where(u < 0.02, 1 - 0.4 * np.log(1 - v), 0.1 + 0.6 * v * w)


def hours(rng: np.random.Generator, count: int, scatter: float) -> Series:
    parts = rng.integers(200, 2000, count).astype(float)
    sums = parts * (1 + scatter * rng.normal(size=count)) + 0.2 * np.sqrt(parts) * rng.normal(size=count)
    return changes.levels(parts, sums, (parts - 1) * 0.04 + sums**2 / parts)


def rates_by_hour(rng: np.random.Generator, count: int, scatter: float) -> Series:
    parts = rng.integers(200, 2000, count)
    rate = 0.02 * np.exp(scatter * rng.normal(size=count))
    return changes.rates(parts.astype(float), rng.binomial(parts, rate).astype(float))


@pytest.mark.parametrize(
    ("draw", "allowed"),
    [
        (lambda rng: bits(rng, 60, 0.1), 0.01),
        (lambda rng: bits(rng, 500, 0.02), 0.01),
        (lambda rng: bits(rng, 500, 0.3), 0.01),
        (lambda rng: changes.ranked(rng.normal(size=500)), 0.01),
        (lambda rng: changes.ranked(rng.standard_cauchy(500)), 0.01),
        (lambda rng: changes.ranked(rng.integers(0, 3, 500).astype(float)), 0.01),
        (lambda rng: hours(rng, 24, 0.0), 0.01),
        (lambda rng: hours(rng, 168, 0.02), 0.01),
        (lambda rng: rates_by_hour(rng, 168, 0.0), 0.01),
        (lambda rng: rates_by_hour(rng, 168, 0.3), 0.03),  # as `changes` says
    ],
    ids=["60 bits", "rare", "frequent", "normal", "cauchy", "ties", "day", "scatter", "rates", "rates that scatter"],
)
def test_where_nothing_changed_little_is_found(draw: Draw, allowed: float) -> None:
    trials = 150
    found = sum(bool(changes.changes(draw(np.random.default_rng(seed)))) for seed in range(trials))
    assert found <= most_by_chance(trials, allowed)


@pytest.mark.parametrize(
    ("draw", "at", "before", "after"),
    [
        (lambda rng: (rng.random(1200) < step(1200, 800, 0.02, 0.15)).astype(float), 800, 0.02, 0.15),
        (lambda rng: (rng.random(1200) < step(1200, 1000, 0.05, 0.5)).astype(float), 1000, 0.05, 0.5),
        (lambda rng: step(1200, 1000, 1.0, 1.1) + 0.1 * rng.normal(size=1200), 1000, 1.0, 1.1),
        (lambda rng: skewed(rng, 1500, 0.0, 1000, 0.1), 1000, None, None),
    ],
    ids=["rejects", "defects", "score", "skewed"],
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    draw: Callable[[np.random.Generator], Floats], at: int, before: float | None, after: float | None
) -> None:
    trials, missed = 60, {"place": 0, "before": 0, "after": 0}
    rate = after not in {1.1, None}
    for seed in range(trials):
        values = draw(np.random.default_rng(seed))
        series = changes.rates(np.ones(len(values)), values) if rate else changes.ranked(values)
        found = changes.changes(series)
        nearest = min(found if rate else changes.placed(values, found), key=lambda change: abs(change.at - at))
        missed["place"] += not nearest.earliest <= at <= nearest.latest
        for name, part, truth in (
            ()
            if before is None or after is None
            else (("before", values[: nearest.at], before), ("after", values[nearest.at :], after))
        ):
            if rate:
                estimate = changes.rate_estimate(len(part), part.sum())
            else:
                estimate = changes.level_estimate(len(part), part.sum(), part.var(ddof=1))
            missed[name] += not estimate.low <= truth <= estimate.high
    assert max(missed.values()) <= most_by_chance(trials, 1 - changes.CONFIDENCE)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    parts=st.integers(1000, 3000),
    share=st.floats(0.1, 0.9),
    before=st.floats(0.0, 0.3),
    rise=st.floats(0.3, 0.7),
    falling=st.booleans(),
)
def test_a_planted_rate_is_found_where_it_was_planted(
    seed: int, parts: int, share: float, before: float, rise: float, *, falling: bool
) -> None:
    at, rates = round(parts * share), (before, before + rise)
    low, high = rates[::-1] if falling else rates
    assume(
        expected_z(at, parts - at, low, high) >= HIGHEST_THRESHOLD + 5
    )  # weaker ones may be missed, by five deviations
    series = bits(np.random.default_rng(seed), parts, step(parts, at, low, high))
    s = np.linspace(0.01, 0.99, 99)
    alike = (low**s * high ** (1 - s) + (1 - low) ** s * (1 - high) ** (1 - s)).min()
    off = math.log(2 / 1e-6) / -math.log(alike)  # Chernoff's bound, but for one case in a million
    assert min(abs(change.at - at) for change in changes.changes(series)) <= off


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    parts=st.integers(1000, 3000),
    share=st.floats(0.1, 0.9),
    rise=st.floats(1.5, 10),
    sign=st.sampled_from([-1, 1]),
)
def test_a_planted_level_is_found_where_it_was_planted(
    seed: int, parts: int, share: float, rise: float, sign: int
) -> None:
    at = round(parts * share)
    values = np.random.default_rng(seed).normal(size=parts) + step(parts, at, 0, sign * rise)
    off = math.log(2 / 1e-6) * 8 / rise**2
    found = changes.placed(values, changes.changes(changes.ranked(values)))
    assert min(abs(change.at - at) for change in found) <= off


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.floats(0, 1), st.floats(-1e6, 1e6)),
        max_size=80,
    )
)
def test_any_series_is_answered_in_order(rows: list[tuple[int, float, float]]) -> None:
    parts = np.array([row[0] for row in rows], float)
    values = np.array([row[2] for row in rows], float)
    for series in (
        changes.rates(parts, np.round(parts * [row[1] for row in rows])),
        changes.levels(parts, parts * values, parts * values**2),
        changes.ranked(values),
    ):
        found = changes.changes(series)
        assert [change.at for change in found] == sorted({change.at for change in found})
        for change in found:
            assert 0 < change.earliest <= change.at <= change.latest < len(series)
            assert 0 <= change.p_value <= changes.SIGNIFICANCE
        assert len(changes.joined(series, found)) <= len(found)


def test_an_incident_that_came_and_went_has_two_ends() -> None:
    rate = step(20_000, 9000, 0.01, 0.2)
    rate[9500:] = 0.01
    found = changes.changes(bits(np.random.default_rng(0), 20_000, rate))
    assert [round(change.at, -2) for change in found] == [9000, 9500]


def test_the_threshold_is_what_the_power_is_reckoned_with() -> None:
    shares = np.arange(5, 2996) / 3000
    assert changes._p_value(HIGHEST_THRESHOLD, shares) <= changes.SIGNIFICANCE / 2  # the whole's share of it


def test_the_last_few_parts_are_enough_where_they_are_plain() -> None:
    events = np.zeros(5000)
    events[[100, 2000]] = 1
    events[4994:] = 1
    assert [change.at for change in changes.changes(changes.rates(np.ones(5000), events))] == [4994]


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_few_are_never_a_change(count: int) -> None:
    values = step(count, count // 2, 0, 1)
    assert changes.changes(changes.rates(np.ones(count), values)) == []
    assert changes.changes(changes.ranked(values)) == []


def test_what_is_all_alike_has_not_changed() -> None:
    for series in (
        changes.rates(np.ones(500), np.zeros(500)),
        changes.rates(np.ones(500), np.ones(500)),
        changes.ranked(np.full(500, 2.5)),
        changes.levels(np.full(50, 40.0), np.full(50, 40.0), np.full(50, 40.0)),
    ):
        assert not changes.varies(series)
        assert changes.changes(series) == []


def test_a_plain_jump_is_placed_to_the_part_wherever_it_is() -> None:
    values = np.random.default_rng(263867).normal(size=300) + step(300, 30, 0, 7)
    assert [change.at for change in changes.placed(values, changes.changes(changes.ranked(values)))] == [30]
    values[[3, 250]] = [1e12, -1e12]
    assert [change.at for change in changes.placed(values, changes.changes(changes.ranked(values)))] == [30]


def test_a_change_of_the_tail_alone_is_placed() -> None:
    tails = np.zeros(400)
    tails[200::3] = 1.0  # the median stays
    (found,) = changes.placed(tails, changes.changes(changes.ranked(tails)))
    assert abs(found.at - 200) <= 3


def test_one_outlier_moves_no_ranks() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    values[-10] = 1e9
    assert changes.changes(changes.ranked(values)) == []


def test_a_bin_with_the_change_in_it_is_no_level() -> None:
    series = changes.rates(np.full(60, 1000.0), np.array([20.0] * 30 + [110.0] + [200.0] * 29))
    apart = changes.changes(series)
    assert [change.at for change in apart] == [30, 31]
    (one,) = changes.joined(series, apart)
    assert one.at in {30, 31}
    assert (one.earliest, one.latest) == (30, 31)
    peak = changes.rates(np.full(60, 1000.0), np.array([20.0] * 30 + [300.0] + [200.0] * 29))
    assert changes.joined(peak, [Change(30, 30, 30, 0.0), Change(31, 31, 31, 0.0)]) != [one]
    assert len(changes.joined(peak, [Change(30, 30, 30, 0.0), Change(31, 31, 31, 0.0)])) == 2


def test_places_and_estimates_by_hand() -> None:
    assert changes.place_rate(np.array([0, 0, 1, 0, 1, 1, 1.0]), 0.1, 0.9)[0] in {2, 4}
    assert changes.place_level(np.array([0, 0.1, -0.1, 5, 5.1, 4.9]), 0, 5, 0.01) == (3, 3, 3)
    low, high = changes.rate_estimate(100, 10)[1:]
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Wilson's interval of 10 in 100
    assert changes.rate_estimate(10, 0).low == 0
    assert changes.level_estimate(100, 200, 4.0) == pytest.approx((2, 2 - 0.392, 2 + 0.392), abs=1e-4)
