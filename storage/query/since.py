"""Since when? The last change of a score or of a rate, asked of the database; the mathematics is in `changes.py`.

Few parts are looked at one by one. Of many, spans of time tell the span, and the parts around it tell the part. The
spans are the hours of the tallies; where those are few, shorter ones, for the scatter of a few bins is hardly known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, Connection, select

from storage.query import changes
from storage.query.changes import Floats, Series
from storage.query.filters import Filter
from storage.query.population import Bins, Parts, Population, What
from storage.query.reading import reading
from storage.schema import verdict

MOST_PARTS = 100_000  # looked at one by one
_REMOVED = "retention has removed parts before {}: what was before is left out"
FEW_HOURS = 64
_SPANS = 256  # made instead of them
_LEAST_SPAN = timedelta(seconds=1)
_PASSES = 3  # of placing a change and estimating what is before and after it


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartRef(_Value):
    """A part, and what it was judged as."""

    part_id: str
    trigger_time: datetime
    station: str
    product: str
    recipe: str
    recipe_version: int


class Level(_Value):
    """A share (of 1) or a mean score of some parts, with its 95 % interval."""

    parts: int
    value: float
    low: float
    high: float


class Change(_Value):
    """A change, and what was before and after it, up to the changes next to it."""

    at: datetime  # trigger time of the first part after it; or the begin of its span
    earliest: datetime  # it lies between these two, by 95 %
    latest: datetime
    first: PartRef | None  # the first part after it; None where only the hour is known
    last_before: PartRef | None
    before: Level
    after: Level
    p_value: float  # how often chance alone makes such a change somewhere between the changes next to it


class SinceWhen(_Value):
    """The answer: the last change, if there is one, and among what it was looked for."""

    what: What
    change: Change | None
    others: tuple[Change, ...]  # earlier ones, the latest first
    parts: int  # looked at; those without a score have none
    since: datetime | None  # trigger times of what was looked at
    until: datetime | None
    complete: bool  # all that the filter means was looked at
    note: str  # what was left out, or why nothing could be found; else empty


def since_when(url: URL | str, chosen: Filter, what: What) -> SinceWhen:
    """Return since when a score or a share is what it is, among the parts that `chosen` means.

    Of DEFECTS, the filter's fields of a defect say which ones count, among the parts that the other fields mean. Raise
    InputError where the filter chooses by what is asked for, StoreError where the server does not answer.
    """
    with reading(url) as connection:
        population = Population(connection, chosen, what)
        whole_since = population.whole_since()
        if population.since is not None and whole_since is not None and population.since >= whole_since:
            whole_since = None  # nothing of what is meant is gone
        counted_since = whole_since if what is What.DEFECTS else None  # tallies know nothing of them
        thinned = whole_since is not None and counted_since is None
        if population.tallied and (thinned or population.count(counted_since) > MOST_PARTS):
            return _BySpans(connection, population, what, whole_since, counted_since).answer()
        return _ByParts(connection, population, what, whole_since).answer()


@dataclass(frozen=True)
class _Sums:
    """Parts with their values, summed."""

    parts: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of_parts(cls, values: Floats) -> Self:
        return cls(len(values), float(values.sum()), float(values @ values))

    @classmethod
    def of_bins(cls, bins: Bins, start: int, stop: int) -> Self:
        cut = slice(start, stop)
        return cls(float(bins.parts[cut].sum()), float(bins.sums[cut].sum()), float(bins.squares[cut].sum()))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.parts + other.parts, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.parts

    @property
    def variance(self) -> float:
        return max(0.0, self.squares - self.total * self.mean) / max(1.0, self.parts - 1)

    def level(self, weights: Floats, *, rate: bool) -> Level:
        """Return the share or the mean; `weights` is how much each part of each bin counts."""
        weight = float(np.mean(weights))
        if rate:
            value, low, high = changes.rate_estimate(self.parts, self.total, weight)
        else:
            value, low, high = changes.level_estimate(self.parts, self.total, self.variance, weight)
        return Level(parts=int(self.parts), value=value, low=low, high=high)


class _ByParts:
    """A change looked for among parts one by one, from `since` on."""

    def __init__(self, connection: Connection, population: Population, what: What, since: datetime | None) -> None:
        self._connection = connection
        self._rate = what is not What.SCORE
        self._what = what
        self._since = since
        self._parts, self._more = population.parts(since, None, MOST_PARTS)

    def answer(self) -> SinceWhen:
        parts = self._parts
        series = changes.rates(np.ones(len(parts)), parts.values) if self._rate else changes.ranked(parts.values)
        found = changes.changes(series)
        if not self._rate:
            found = changes.placed(parts.values, found)
        bounds = [0, *(change.at for change in found), len(parts)]
        answers = [self._change(series, *around) for around in zip(found, bounds, bounds[1:], bounds[2:], strict=False)]
        return SinceWhen(
            what=self._what,
            change=answers[-1] if answers else None,
            others=tuple(reversed(answers[:-1])),
            parts=len(parts),
            since=parts.times[0] if len(parts) else None,
            until=parts.times[-1] if len(parts) else None,
            complete=not self._more and self._since is None,
            note="; ".join(self._notes(series)),
        )

    def _change(self, series: Series, change: changes.Change, start: int, at: int, stop: int) -> Change:
        parts = self._parts
        before, after = _Sums.of_parts(parts.values[start:at]), _Sums.of_parts(parts.values[at:stop])
        return Change(
            at=parts.times[at],
            earliest=parts.times[change.earliest],
            latest=parts.times[change.latest],
            first=_reference(self._connection, parts, at),
            last_before=_reference(self._connection, parts, at - 1),
            before=before.level(series.weights[start:at], rate=self._rate),
            after=after.level(series.weights[at:stop], rate=self._rate),
            p_value=change.p_value,
        )

    def _notes(self, series: Series) -> list[str]:
        notes = []
        if self._more:
            notes.append(f"only the latest {MOST_PARTS} parts were looked at")
        elif self._since is not None:
            notes.append(_REMOVED.format(self._since.isoformat()))
        if len(self._parts) < 2 * changes.FEWEST:
            notes.append(f"too few parts: {len(self._parts)}, it takes {2 * changes.FEWEST}")
        elif not changes.varies(series):
            notes.append("all parts are alike")
        return notes


class _BySpans:
    """A change looked for among tallies, and then by the part where no part of its time was removed."""

    def __init__(
        self,
        connection: Connection,
        population: Population,
        what: What,
        whole_since: datetime | None,
        counted_since: datetime | None,
    ) -> None:
        self._connection = connection
        self._population = population
        self._what = what
        self._rate = what is not What.SCORE
        self._whole_since = whole_since
        self._counted_since = counted_since
        self._bins = bins = population.hours(counted_since)
        if 0 < len(bins) < FEW_HOURS and (whole_since is None or whole_since == counted_since):
            width = (bins.bounds[-1] - bins.bounds[0]) / _SPANS
            self._bins = population.spans(max(width, _LEAST_SPAN), counted_since)

    def answer(self) -> SinceWhen:
        bins, note = self._bins, ""
        if self._rate:
            series = changes.rates(bins.parts, bins.sums)
        else:
            series = changes.levels(bins.parts, bins.sums, bins.squares)
        found = changes.joined(series, changes.changes(series))
        bounds = [0, *(change.at for change in found), len(bins)]
        around = list(zip(found, bounds, bounds[1:], bounds[2:], strict=False))
        answers = [self._of_bins(series, *one) for one in around]
        if around:
            refined = self._of_parts(series, *around[-1])
            answers[-1] = refined or answers[-1]
            note = "" if refined else "retention has removed parts around the change: it is known by the hour"
        elif self._counted_since is not None:
            note = _REMOVED.format(self._counted_since.isoformat())
        elif len(bins) < 2:  # noqa: PLR2004 - a change divides
            note = "too few parts: less than two hours of them"
        elif not changes.varies(series):
            note = "all parts are alike"
        return SinceWhen(
            what=self._what,
            change=answers[-1] if answers else None,
            others=tuple(reversed(answers[:-1])),
            parts=int(bins.parts.sum()),
            since=bins.bounds[0] if len(bins) else None,
            until=bins.bounds[-1] if len(bins) else None,
            complete=self._counted_since is None,
            note=note,
        )

    def _of_bins(self, series: Series, change: changes.Change, start: int, at: int, stop: int) -> Change:
        bins = self._bins
        return Change(
            at=bins.bounds[at],
            earliest=bins.bounds[change.earliest - 1],
            latest=bins.bounds[change.latest + 1],
            first=None,
            last_before=None,
            before=_Sums.of_bins(bins, start, at).level(series.weights[start:at], rate=self._rate),
            after=_Sums.of_bins(bins, at, stop).level(series.weights[at:stop], rate=self._rate),
            p_value=change.p_value,
        )

    def _of_parts(self, series: Series, change: changes.Change, start: int, at: int, stop: int) -> Change | None:
        """Return a change by the part, None where not all parts around it are there."""
        bins = self._bins
        left, right = max(start, change.earliest - 1), min(stop, change.latest + 1)
        while right - left > 2 and bins.parts[left:right].sum() > MOST_PARTS:  # noqa: PLR2004 - it lies in two
            left, right = (left + 1, right) if at - left > right - at else (left, right - 1)
        begin = bins.bounds[left]
        end = bins.bounds[right]
        if self._whole_since is not None and begin < self._whole_since:
            return None
        parts, _ = self._population.parts(begin, end, 4 * MOST_PARTS)
        if len(parts) < 2:  # noqa: PLR2004 - a change divides
            return None
        outside = _Sums.of_bins(bins, start, left), _Sums.of_bins(bins, right, stop)
        before, after = _Sums.of_bins(bins, start, at), _Sums.of_bins(bins, at, stop)
        place = earliest = latest = 0
        for _ in range(_PASSES):
            placed = self._placed(parts.values, before, after, series, float(np.mean(series.weights[left:right])))
            place, earliest, latest = (min(max(index, 1), len(parts) - 1) for index in placed)
            before = outside[0] + _Sums.of_parts(parts.values[:place])
            after = outside[1] + _Sums.of_parts(parts.values[place:])
        return Change(
            at=parts.times[place],
            earliest=parts.times[earliest],
            latest=parts.times[latest],
            first=_reference(self._connection, parts, place),
            last_before=_reference(self._connection, parts, place - 1),
            before=before.level(series.weights[start:right], rate=self._rate),
            after=after.level(series.weights[left:stop], rate=self._rate),
            p_value=change.p_value,
        )

    def _placed(
        self, values: Floats, before: _Sums, after: _Sums, series: Series, weight: float
    ) -> tuple[int, int, int]:
        if series.variance is None:
            return changes.place_rate(values, before.mean, after.mean, weight)
        return changes.place_level(values, before.mean, after.mean, series.variance, weight)


def _reference(connection: Connection, parts: Parts, index: int) -> PartRef:
    columns = [verdict.c[name] for name in PartRef.model_fields]
    found = select(*columns).where(
        verdict.c.trigger_time == parts.times[index], verdict.c.part_id == parts.part_ids[index]
    )
    return PartRef(**connection.execute(found).one()._asdict())
