"""An encoder's counts as a way, and the way over time."""

from __future__ import annotations

import math

import pytest

from decision.travel import Encoder, Travel

MS = 1_000_000


def encoder(bits: int = 16, mm_per_count: float = 0.1) -> Encoder:
    return Encoder(bits, mm_per_count, top_speed_mm_s=1000, precision_mm=10)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("mm_per_count", [0.1, -0.1])
def test_a_counter_that_wraps_round_goes_on(bits: int, mm_per_count: float) -> None:
    one, sign = encoder(bits, mm_per_count), int(math.copysign(1, mm_per_count))
    for step in range(20):
        assert one.read((-95 + sign * 10 * step) % (1 << bits), step * 2 * MS) is None
    assert one.way_mm == pytest.approx(19)


def test_running_back_a_little_is_a_way_and_more_is_unknown() -> None:
    one = encoder()
    for step, count in enumerate([0, 500, 450, 500, 440]):
        assert one.read(count, step * 100 * MS) is None
    assert one.way_mm == pytest.approx(44)
    assert one.read(390, 500 * MS) == "the belt ran backwards by 11.0 mm"
    assert one.read(400, 600 * MS) is None


@pytest.mark.parametrize(
    ("count", "after_ms", "said"),
    [
        (2000, 5, "the encoder jumped from 1000 to 2000 in 5 ms: the belt moves 15.5 mm in that time at most"),
        (0, 5, "the encoder jumped from 1000 to 0 in 5 ms"),
        (1001, 1001, "was not read for 1.0 s"),
    ],
)
def test_what_no_belt_does_is_unknown_and_the_way_goes_on_from_there(count: int, after_ms: int, said: str) -> None:
    one = encoder()
    one.read(1000, 0)
    assert said in str(one.read(count, after_ms * MS))
    assert one.way_mm == 0
    assert one.read(count + 10, (after_ms + 5) * MS) is None
    assert one.way_mm == pytest.approx(1)


def test_a_counter_that_may_have_wrapped_round_unseen_is_unknown() -> None:
    one = encoder(16, 0.01)  # 327 mm in half of its range
    one.read(0, 0)
    assert one.read(20_000, 250 * MS) is None
    assert "may have wrapped round" in str(one.read(40_000, 600 * MS))


def test_the_way_between_samples_and_beyond_the_last() -> None:
    travel = Travel(precision_mm=15)
    assert travel.between(0) == (-math.inf, math.inf)
    for step in range(11):
        travel.add(step * 10 * MS, step * 5.0)
    assert travel.between(-1) == (-math.inf, 0)
    assert travel.between(45 * MS) == (22.5, 22.5)
    assert travel.between(110 * MS) == (55, 55)
    assert travel.between(900 * MS) == (60, 60)  # it may have stopped since: nobody extrapolates for ever
    assert travel.when(75) == 150 * MS
    travel.forget()
    assert travel.between(45 * MS) == (-math.inf, math.inf)


def test_the_way_in_a_gap_is_known_only_where_the_belt_hardly_moved() -> None:
    travel = Travel(precision_mm=15)
    for time_ms, way_mm in ((0, 0), (60, 14), (120, 30), (170, 60)):
        travel.add(time_ms * MS, way_mm)
    assert travel.between(30 * MS) == (7, 7)
    assert travel.between(90 * MS) == (14, 30)
    assert travel.between(145 * MS) == (45, 45)


def test_a_belt_that_stands_is_seen_to() -> None:
    travel = Travel(precision_mm=15)
    for time_ms in range(0, 600, 10):
        travel.add(time_ms * MS, min(time_ms, 300))
    assert not travel.stood(300 * MS)
    assert not travel.stood(490 * MS)
    assert travel.stood(550 * MS)
    assert travel.when(400) is None


def test_samples_are_kept_for_seconds_and_not_for_ever() -> None:
    travel = Travel(precision_mm=15)
    for step in range(100_000):
        travel.add(step * 5 * MS, float(step))
    assert travel.between(100_000 * 5 * MS - 9_000 * MS)[0] == pytest.approx(98_200)
    assert len(travel._times_ns) < 10_000
