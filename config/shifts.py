"""The shifts that people work in: when each begins by the station's clock. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from pydantic import BaseModel, ConfigDict, Field


class Shift(BaseModel):
    """A shift: it lasts until the next one begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=40, pattern=r"^\S(?:.*\S)?$")
    starts: time  # by the station's clock

    def begin(self, now: datetime, days: int) -> datetime:
        """Return when it begins so many days after the day of `now`, with the offset from UTC that `now` has."""
        return datetime.combine(now.date() + timedelta(days=days), self.starts, now.tzinfo)


DEFAULT = (
    Shift(name="Early", starts=time(6)),
    Shift(name="Late", starts=time(14)),
    Shift(name="Night", starts=time(22)),
)


@dataclass(frozen=True)
class Present:
    """A shift that is on: from `began` on, up to `ends`."""

    name: str
    began: datetime
    ends: datetime


def check(shifts: Sequence[Shift]) -> None:
    """Raise ValueError unless there is a shift, and names and beginnings differ."""
    if not shifts:
        raise ValueError("shifts: there must be one at least, such as [{ name = 'Day', starts = '06:00' }]")
    for field in ("name", "starts"):
        said = [str(getattr(shift, field)) for shift in shifts]
        if len(set(said)) < len(said):
            raise ValueError(f"shifts: {field} must differ, not {', '.join(said)}")
    if any(shift.starts.tzinfo for shift in shifts):
        raise ValueError("shifts: starts is by the station's clock and has no zone of its own")


def present(shifts: Sequence[Shift], now: datetime) -> Present:
    """Return the shift that is on at `now`, which has a zone: begins are of its offset from UTC."""
    begins = sorted((shift.begin(now, days), shift.name) for shift in shifts for days in (-1, 0, 1))
    began, name = max(begin for begin in begins if begin[0] <= now)
    return Present(name, began, min(begin for begin, _ in begins if begin > now))
