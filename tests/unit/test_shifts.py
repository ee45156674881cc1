"""Shifts: which one is on, whatever the hour, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone

import pytest

from config.shifts import DEFAULT, Shift, check, present

SEOUL = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("hour", "name", "start_hour", "days_before"),
    [
        (5, "Night", 22, 1),
        (6, "Early", 6, 0),
        (13, "Early", 6, 0),
        (14, "Late", 14, 0),
        (22, "Night", 22, 0),
        (0, "Night", 22, 1),
    ],
)
def test_shifts_change_at_six_two_and_ten(hour: int, name: str, start_hour: int, days_before: int) -> None:
    found = present(DEFAULT, datetime(2026, 3, 4, hour, 59, 59, 999, tzinfo=UTC))
    assert (found.name, found.began) == (name, datetime(2026, 3, 4 - days_before, start_hour, tzinfo=UTC))
    assert found.ends - found.began == timedelta(hours=8)


def test_a_shift_begins_by_the_stations_clock_and_the_only_one_lasts_a_day() -> None:
    day = (Shift(name="Day", starts=time(7, 30)),)
    found = present(day, datetime(2026, 1, 1, 7, 29, tzinfo=SEOUL))
    assert (found.began, found.ends) == (
        datetime(2025, 12, 31, 7, 30, tzinfo=SEOUL),
        datetime(2026, 1, 1, 7, 30, tzinfo=SEOUL),
    )


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        ((), "one at least"),
        ((Shift(name="A", starts=time(6)), Shift(name="A", starts=time(7))), "name must differ"),
        ((Shift(name="A", starts=time(6)), Shift(name="B", starts=time(6))), "starts must differ"),
        ((Shift(name="A", starts=time(6, tzinfo=UTC)),), "no zone"),
    ],
)
def test_nonsense_is_refused(shifts: tuple[Shift, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(shifts)
