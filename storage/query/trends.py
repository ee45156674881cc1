"""What was judged and measured by the hour, shift, day or week: the tallies, grouped by the station's clock.

A tally is of a whole hour of UTC, and belongs where its begin lies: where a shift or a day begins within one, its first
parts count for the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import ColumnElement, Connection, Table, func, literal, or_, select

from config import shifts
from config.errors import InputError
from config.messages import Judgement
from config.shifts import Shift
from storage.query.charts import Subgroups
from storage.query.filters import Filter, Moment, Name
from storage.schema import appearance, tally, view_tally

MOST_POINTS = 500
FEWEST_PARTS = 30  # in a subgroup: of fewer a share or a mean says next to nothing
_HOUR = timedelta(hours=1)
_NAMES = ("station", "line", "product", "recipe", "recipe_version", "camera", "bundle")


class Measure(StrEnum):
    """What is followed: the share of parts (or views) judged so, or the mean of something measured."""

    REJECTS = "rejects"
    REVIEW = "review"
    FAULT = "fault"
    SCORE = "score"
    BRIGHTNESS = "brightness"  # of some images a second (`inference/appearance.py`)
    FOCUS = "focus"

    @property
    def judgement(self) -> Judgement | None:
        """The verdict whose share it is."""
        return _JUDGEMENTS.get(self)


_JUDGEMENTS = {Measure.REJECTS: Judgement.REJECT, Measure.REVIEW: Judgement.REVIEW, Measure.FAULT: Judgement.FAULT}
_LOOKS = {
    Measure.BRIGHTNESS: (appearance.c.brightness_sum, appearance.c.brightness_squares),
    Measure.FOCUS: (appearance.c.focus_sum, appearance.c.focus_squares),
}


class Period(StrEnum):
    """How long a subgroup is, by the station's clock; weeks begin on Monday."""

    HOUR = "hour"
    SHIFT = "shift"
    DAY = "day"
    WEEK = "week"


class Chosen(BaseModel):
    """Which parts are meant, in whole hours; with a camera or a bundle it is views that are counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    since: Moment | None = Field(None, description="trigger time; the whole hour that it lies in counts")
    until: Moment | None = Field(None, description="itself not included; the whole hour that it lies in counts")
    station: Name | None = None
    line: Name | None = None
    product: Name | None = None
    recipe: Name | None = None
    recipe_version: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    camera: Name | None = None
    bundle: Annotated[str, AfterValidator(lambda text: Filter(bundle=text).bundle or "")] | None = Field(
        None, description="digest of the bundle that judged a view, or its first 8 hexadecimal digits or more"
    )

    @model_validator(mode="after")
    def _span_holds_something(self) -> Chosen:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"since ({self.since.isoformat()}) must be before until ({self.until.isoformat()})")
        return self

    @property
    def of_views(self) -> bool:
        """Whether views are counted, not parts."""
        return self.camera is not None or self.bundle is not None

    def where(self, table: Table) -> list[ColumnElement[bool]]:
        """Return what that says of a row of `tally`, `view_tally` or `appearance`."""
        meant: list[ColumnElement[bool]] = []
        for name in _NAMES:
            value = getattr(self, name)
            if value is None:
                continue
            if name not in table.c:
                raise InputError(f"{name}: nothing is known by it of what is asked for: leave it out")
            if name == "bundle":
                meant.append(or_(*(func.starts_with(table.c.bundle, f"{seal}{value}") for seal in ("sha256:", ""))))
            else:
                meant.append(table.c[name] == value)
        if self.since is not None:
            meant.append(table.c.hour > self.since - _HOUR)
        if self.until is not None:
            meant.append(table.c.hour < self.until)
        return meant


@dataclass(frozen=True)
class Series:
    """Subgroups in order, each from a begin to its end; those without parts are left out."""

    starts: list[datetime]
    ends: list[datetime]
    subgroups: Subgroups


class Clock:
    """The station's clock: where a period begins that an hour lies in."""

    def __init__(self, local: Callable[[datetime], datetime], worked: Sequence[Shift]) -> None:
        """`local` puts a moment into the station's zone; `worked` are its shifts."""
        self.local = local
        self._shifts = worked
        self._names: dict[tuple[int, int], str] = {}

    def shift(self, hour: datetime) -> str:
        """Return the name of the shift that an hour begins in."""
        now = self.local(hour)
        name = self._names.get((now.hour, now.minute))
        if name is None:
            name = self._names[now.hour, now.minute] = shifts.present(self._shifts, now).name
        return name

    def period(self, hour: datetime, period: Period) -> tuple[datetime, datetime]:
        """Return begin and end of the period that an hour begins in."""
        now = self.local(hour)
        if period is Period.HOUR:
            return now, now + _HOUR
        if period is Period.SHIFT:
            on = shifts.present(self._shifts, now)
            return on.began, on.ends
        days = 1 if period is Period.DAY else 7
        back = 0 if period is Period.DAY else now.weekday()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        return midnight, midnight + timedelta(days=days)


def series(connection: Connection, chosen: Chosen, measure: Measure, period: Period, clock: Clock) -> Series:
    """Return the subgroups that are meant; one with few parts is joined to the next, the last one to that before.

    Raise InputError where there are too many, or nothing is known by a name.
    """
    found: dict[datetime, list[Any]] = {}
    start: datetime | None = None
    end: datetime | None = None
    for hour, count, total, squares in _hours(connection, chosen, measure):
        if not count:
            continue
        if end is None or hour >= end:
            before = start
            start, end = clock.period(hour, period)
            if before is not None and found[before][1] < FEWEST_PARTS:  # too few to stand alone
                start = before
            sums = found.setdefault(start, [end, 0.0, 0.0, 0.0])
            sums[0] = end
        for index, value in enumerate((count, total, squares), 1):
            sums[index] += float(value or 0)
    if len(found) > MOST_POINTS:
        raise InputError(f"period: there are {len(found)} of a {period}, more than {MOST_POINTS}: choose longer ones")
    starts = list(found)
    if len(found) > 1 and found[starts[-1]][1] < FEWEST_PARTS:
        last = found.pop(starts.pop())
        found[starts[-1]] = [
            last[0],
            *(one + other for one, other in zip(found[starts[-1]][1:], last[1:], strict=True)),
        ]
    table = np.array([sums[1:] for sums in found.values()], np.float64).reshape(-1, 3)
    share = measure.judgement is not None
    groups = Subgroups(table[:, 0], table[:, 1], None if share else table[:, 2])
    return Series(starts, [sums[0] for sums in found.values()], groups)


def table_of(*, of_views: bool) -> tuple[Table, ColumnElement[Any]]:
    """Return the tallies of parts, or of views, and their column of how many."""
    return (view_tally, view_tally.c.views) if of_views else (tally, tally.c.parts)


def _hours(connection: Connection, chosen: Chosen, measure: Measure) -> Any:  # noqa: ANN401 - rows of numbers
    """Return the hours in order: how many, and the sum and the squares of what is followed."""
    columns: list[ColumnElement[Any]]
    if measure in _LOOKS:
        if chosen.camera is None:
            raise InputError(f"camera: {measure} is of one camera: name it")
        table: Table = appearance
        sums = (appearance.c.frames, *_LOOKS[measure])
        columns = [func.sum(column) for column in sums]
    else:
        table, count = table_of(of_views=chosen.of_views)
        if measure.judgement is not None:
            judged = func.sum(count).filter(table.c.verdict == measure.judgement.value)
            columns = [func.sum(count), judged, literal(0)]
        else:
            columns = [func.sum(table.c[name]) for name in ("scored", "score_sum", "score_squares")]
    statement = select(table.c.hour, *columns).where(*chosen.where(table))
    return connection.execute(statement.group_by(table.c.hour).order_by(table.c.hour))
