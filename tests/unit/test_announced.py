from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.announced import Announced


@given(st.lists(st.integers(-3, 30) | st.integers(2**32 - 5, 2**32 + 2)))
def test_each_trigger_is_announced_once_in_whatever_order_a_camera_tells_of_them(sequences: list[int]) -> None:
    announced = Announced()
    taken = [sequence for sequence in sequences if announced.take(sequence)]
    assert len(set(taken)) == len(taken)
    assert all(0 <= sequence < 2**32 - 1 for sequence in taken)
    if all(sequence <= 30 for sequence in sequences):
        assert set(taken) == {sequence for sequence in sequences if sequence >= 0}


def test_what_may_have_been_announced_long_ago_is_not_announced_again() -> None:
    announced = Announced()
    assert all(announced.take(sequence) for sequence in range(20_000))
    assert not any(announced.take(sequence) for sequence in range(20_000))
    assert announced.take(20_000)


def test_triggers_that_a_camera_does_not_tell_of_are_seen_by_their_numbers() -> None:
    announced = Announced()
    skipped = []
    for sequence in (7, 8, 11, 10, 12, 12, 13):
        announced.take(sequence)
        skipped.append(announced.skipped)
    assert skipped == [0, 0, 2, 0, 0, 0, 0]
