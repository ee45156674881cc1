"""The parts among which a rate or a score is looked at: one by one, or by spans of time.

Tallies outlive retention, parts do not: `whole_since` tells from when on all parts are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    FromClause,
    Interval,
    Table,
    and_,
    case,
    distinct,
    func,
    literal,
    select,
)

from config.errors import InputError
from config.messages import Judgement
from storage import partitions
from storage.query.changes import Floats
from storage.query.conditions import of_defect, of_tally, whole
from storage.query.filters import Filter
from storage.schema import audit, defect, tally, verdict

HOUR = timedelta(hours=1)
_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)  # of all spans of time
_ENOUGH = 30  # parts in a bin of tallies: then its mean is as good as normal
_SWEPT = "retention.swept"  # the audit trail's word for it
_OF_DEFECTS = ("defect_class", "area_min_px", "area_max_px", "x_min", "x_max", "y_min", "y_max")


class What(StrEnum):
    """What may have changed."""

    SCORE = "score"  # the mean of the parts' scores
    REJECTS = "rejects"  # the share of parts judged so
    REVIEW = "review"
    FAULT = "fault"
    DEFECTS = "defects"  # the share of parts that have a defect as the filter means it


_JUDGEMENTS = {What.REJECTS: Judgement.REJECT, What.REVIEW: Judgement.REVIEW, What.FAULT: Judgement.FAULT}


@dataclass(frozen=True)
class Parts:
    """Parts one by one, in order; `values` are scores, or 1 where a part is what is counted and 0 where not."""

    times: NDArray[np.object_]
    part_ids: NDArray[np.object_]
    values: Floats

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Bins:
    """Parts by spans of time; `sums` of scores, or of parts that are what is counted.

    Bin `i` lies between `bounds[i]` and `bounds[i + 1]`. One with few parts is joined to the next.
    """

    bounds: list[datetime]
    parts: Floats
    sums: Floats
    squares: Floats

    def __len__(self) -> int:
        return len(self.parts)


class Population:
    """The parts that a filter means, seen through one connection.

    Of DEFECTS, the filter's fields of a defect say which ones count, among the parts that the other fields mean.
    Raise InputError where the filter chooses by what is counted.
    """

    def __init__(self, connection: Connection, chosen: Filter, what: What) -> None:
        if what in _JUDGEMENTS and (chosen.verdicts or chosen.reason is not None):
            raise InputError(f"verdicts, reason: parts cannot be chosen by them where the share of {what} is asked for")
        self._connection = connection
        self._what = what
        self._defects = list(of_defect(chosen))
        self._chosen = chosen.model_copy(update=dict.fromkeys(_OF_DEFECTS)) if what is What.DEFECTS else chosen
        self.tallied = self._chosen.by_tally

    @property
    def since(self) -> datetime | None:
        """The first trigger time that is meant."""
        return self._chosen.since

    def count(self, since: datetime | None) -> int:
        """Return how many parts there have been in the whole hours from `since` on; of a tallied population."""
        counted = select(func.sum(tally.c.parts)).where(*self._of_tally(since))
        return int(self._connection.execute(counted).scalar() or 0)

    def parts(self, since: datetime | None, until: datetime | None, most: int) -> tuple[Parts, bool]:
        """Return the latest `most` parts with a value in `since`..`until`, in order, and whether there are more."""
        value: ColumnElement[Any] = verdict.c.score
        if self._what in _JUDGEMENTS:
            value = case((verdict.c.verdict == _JUDGEMENTS[self._what].value, 1.0), else_=0.0)
        elif self._what is What.DEFECTS:
            value = literal(0.0)
        statement = select(verdict.c.trigger_time, verdict.c.part_id, value)
        statement = statement.where(*whole(self._chosen), *_between(verdict, since, until))
        if self._what is What.SCORE:
            statement = statement.where(verdict.c.score.is_not(None))
        statement = statement.order_by(verdict.c.trigger_time.desc(), verdict.c.part_id.desc()).limit(most + 1)
        rows = self._connection.execute(statement).all()
        kept = rows[:most][::-1]
        times, part_ids = (np.array([row[column] for row in kept], object) for column in (0, 1))
        values = np.array([row[2] for row in kept], np.float64)
        if self._what is What.DEFECTS and kept:
            having = self._having_defects(kept[0][0], kept[-1][0])
            values = np.array([part_id in having for part_id in part_ids], np.float64)
        finite = np.isfinite(values)
        return Parts(times[finite], part_ids[finite], values[finite]), len(rows) > most

    def hours(self, since: datetime | None) -> Bins:
        """Return the whole hours that are meant, from `since` on, by their tallies; of a tallied population."""
        scored = self._what is What.SCORE
        judged = _JUDGEMENTS.get(self._what)
        statement = select(
            tally.c.hour,
            func.sum(tally.c.scored if scored else tally.c.parts),
            func.sum(tally.c.score_sum)
            if scored
            else func.sum(tally.c.parts).filter(tally.c.verdict == (judged.value if judged else "")),
            func.sum(tally.c.score_squares),
        ).where(*self._of_tally(since))
        found = self._connection.execute(statement.group_by(tally.c.hour).order_by(tally.c.hour))
        return self._bins(found, HOUR, since)

    def spans(self, width: timedelta, since: datetime | None) -> Bins:
        """Return all that is meant, from `since` on, by spans of `width`; every part is looked at."""
        start = _span(verdict, width)
        finite = and_(verdict.c.score > -math.inf, verdict.c.score < math.inf)  # to PostgreSQL, NaN is above infinity
        score = verdict.c.score
        if self._what is What.SCORE:
            sums: list[ColumnElement[Any]] = [
                one.filter(finite) for one in (func.count(), func.sum(score), func.sum(score * score))
            ]
        else:
            judged = _JUDGEMENTS.get(self._what)
            sums = [
                func.count(),
                func.count().filter(verdict.c.verdict == (judged.value if judged else "")),
                literal(0),
            ]
        statement = select(start, *sums).where(*whole(self._chosen), *_between(verdict, since, None))
        return self._bins(self._connection.execute(statement.group_by(start).order_by(start)), width, since)

    def _bins(self, rows: Iterable[Any], width: timedelta, since: datetime | None) -> Bins:
        having = self._defects_by(width, since) if self._what is What.DEFECTS else {}
        starts: list[datetime] = []
        bins: list[list[float]] = []
        end: datetime | None = None
        for start, parts, total, squares in rows:
            if not parts:
                continue
            sums = [float(parts), float(having.get(start, total or 0)), float(squares or 0)]
            if bins and bins[-1][0] < _ENOUGH:
                bins[-1] = [one + other for one, other in zip(bins[-1], sums, strict=True)]
            else:
                starts.append(start)
                bins.append(sums)
            end = start + width
        table = np.array(bins, np.float64).reshape(-1, 3)
        return Bins(starts if end is None else [*starts, end], table[:, 0], table[:, 1], table[:, 2])

    def whole_since(self) -> datetime | None:
        """Return from when on no part has been removed, as far as is of interest; None where none ever was."""
        swept = select(audit.c.number).where(audit.c.action == _SWEPT).limit(1)
        if self._connection.execute(swept).first() is None:
            return None
        whole = None
        present = [partition for partition in partitions.present(self._connection) if partition.table is verdict]
        for week in sorted(present, key=lambda partition: partition.start, reverse=True):
            counted = select(func.sum(tally.c.parts)).where(tally.c.hour >= week.start, tally.c.hour < week.end)
            stored = select(func.count()).where(verdict.c.trigger_time >= week.start, verdict.c.trigger_time < week.end)
            parts, there = (self._connection.execute(one).scalar() or 0 for one in (counted, stored))
            if there < parts:
                return whole or week.end
            whole = week.start
            if self.since is not None and whole <= self.since:
                break
        return whole

    def _having_defects(self, first: datetime, last: datetime) -> set[str]:
        found = select(defect.c.part_id).where(
            defect.c.trigger_time >= first, defect.c.trigger_time <= last, *self._defects
        )
        return set(self._connection.execute(found).scalars())

    def _defects_by(self, width: timedelta, since: datetime | None) -> dict[datetime, int]:
        span = _span(defect, width)
        chosen = self._chosen
        meant = [*_between(defect, since, None), *_between(defect, chosen.since, chosen.until), *self._defects]
        found: FromClause = defect
        if (
            chosen.verdicts
            or any(getattr(chosen, name) is not None for name in ("station", "line", "recipe"))
            or (chosen.recipe_version is not None)
        ):
            same = and_(verdict.c.part_id == defect.c.part_id, verdict.c.trigger_time == defect.c.trigger_time)
            found = defect.join(verdict, same)
            meant += whole(chosen)
        counted = select(span, func.count(distinct(defect.c.part_id))).select_from(found).where(*meant).group_by(span)
        return {row[0]: row[1] for row in self._connection.execute(counted)}

    def _of_tally(self, since: datetime | None) -> list[ColumnElement[bool]]:
        meant = list(of_tally(self._chosen))
        if bounds := [time for time in (since, self._chosen.since) if time is not None]:
            meant.append(tally.c.hour >= max(bounds))
        if self._chosen.until is not None:
            meant.append(tally.c.hour <= self._chosen.until - HOUR)
        return meant


def _span(table: Table, width: timedelta) -> ColumnElement[datetime]:
    """Return when the span of time begins that a row lies in."""
    return func.date_bin(literal(width, Interval), table.c.trigger_time, literal(_ORIGIN, DateTime(timezone=True)))


def _between(table: Table, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    time = table.c.trigger_time
    meant = [] if since is None else [time >= since]
    return meant if until is None else [*meant, time < until]
