"""Another machine's clock is told as well as the shortest round trip allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.clock import Clock

DELAYS = st.integers(0, 10**9)
STEP_NS = 200_000_000


def test_nothing_is_known_before_the_first_answer() -> None:
    assert Clock().offset_ns is None


@given(offset_ns=st.integers(-(10**15), 10**15), trips=st.lists(st.tuples(DELAYS, DELAYS), min_size=1, max_size=80))
def test_the_error_is_at_most_half_of_the_best_round_trip_and_what_may_drift(offset_ns, trips) -> None:
    clock, now_ns = Clock(), 10**12
    bounds = []
    for there_ns, back_ns in trips:
        came_ns = now_ns + there_ns + back_ns
        clock.answer(now_ns, now_ns + there_ns + offset_ns, came_ns)
        bounds = [bound + 50e-6 * (came_ns - since) for bound, since in bounds]
        bounds = [(bound, came_ns) for bound in [*bounds, (there_ns + back_ns) / 2]]
        now_ns = came_ns + STEP_NS
    assert clock.offset_ns is not None
    assert abs(clock.offset_ns - offset_ns) <= min(bound for bound, _ in bounds) + 2


def test_a_good_answer_is_kept_through_minutes_of_bad_ones_but_not_for_ever() -> None:
    clock = Clock()
    clock.answer(0, 7_000_000 + 50_000, 100_000)
    for number in range(1, 600):  # a worker that is busy sees each answer late
        clock.answer(number * STEP_NS, number * STEP_NS + 7_000_000, number * STEP_NS + 150_000_000)
    assert clock.offset_ns == 7_000_000
    for number in range(600, 10_000):
        clock.answer(number * STEP_NS, number * STEP_NS + 7_100_000, number * STEP_NS + 20_000_000)
    assert clock.offset_ns == 7_100_000 - 10_000_000


def test_it_follows_a_machine_that_was_started_again() -> None:
    clock = Clock()
    clock.answer(0, 5_000_500, 1000)
    clock.answer(STEP_NS, STEP_NS - 7_000_000, STEP_NS + 300_000)
    assert clock.offset_ns == -7_150_000
