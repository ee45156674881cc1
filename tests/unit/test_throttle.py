"""Failed sign-ins: who has to wait, for how long, and what is remembered of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.throttle import Throttle


def test_first_failures_are_free_and_later_ones_wait_longer_each_time() -> None:
    throttle = Throttle(free=3)
    assert [throttle.fail("ada", 0.0) for _ in range(2)] == [False, False]
    assert throttle.wait_s("ada", 0.0) == 0
    assert throttle.fail("ada", 0.0) is True, "told once: from here on there is a wait"
    assert throttle.wait_s("ada", 0.0) == 2
    assert throttle.wait_s("ada", 1.75) == 0.25
    waits = []
    for _ in range(12):
        assert throttle.fail("ada", 10.0) is False
        waits.append(throttle.wait_s("ada", 10.0))
    assert waits[:4] == [4, 8, 16, 32]
    assert waits[-1] == 300
    assert throttle.wait_s("bo", 10.0) == 0


def test_an_hour_of_peace_and_a_success_forget() -> None:
    throttle = Throttle(free=1)
    throttle.fail("ada", 0.0)
    throttle.fail("ada", 3601.0)
    assert throttle.wait_s("ada", 3601.0) == 2
    throttle.forget("ada")
    assert throttle.wait_s("ada", 3601.0) == 0
    throttle.fail("ada", 3601.0)
    throttle.forgive("ada")
    assert throttle.wait_s("ada", 3601.0) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6)), max_size=60))
def test_nobody_waits_longer_than_five_minutes(tries: list[tuple[str, float]]) -> None:
    throttle = Throttle(free=2)
    for key, now_s in sorted(tries, key=lambda one: one[1]):
        throttle.fail(key, now_s)
        assert 0 <= throttle.wait_s(key, now_s) <= 300


def test_memory_is_bounded_whatever_is_typed() -> None:
    throttle = Throttle(free=1)
    for number in range(12_000):
        throttle.fail(str(number), 0.0)
    assert len(throttle) == 10_000
    assert throttle.wait_s("11999", 0.0) == 2
