"""Quantiles of scores by the day or week: of a sample, for tallies know means only.

Each period is sampled at some of its hours, evenly apart among those that have parts as they are meant, each by the
first of its parts: what is asked of a year costs as much as what is asked of a week.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, DateTime, column, func, select, true, values

from storage.query.shares import same_part
from storage.query.trends import Chosen, Clock, Period, table_of
from storage.schema import verdict, view

MOST_PERIODS = 60
QUANTILES = (0.05, 0.5, 0.95)
_HOURS = 96  # that are sampled of all periods together, and at most 12 of each
_MOST_HOURS = 12
_PARTS = 40  # looked at in each hour
_HOUR = timedelta(hours=1)
_Periods = dict[tuple[datetime, datetime], list[datetime]]  # begin and end -> the hours in it that have scores
_OF_PART = ("station", "line", "product", "recipe", "recipe_version")


class Spread(NamedTuple):
    """The scores of a period: how many were sampled, and their quantiles."""

    start: datetime
    end: datetime
    sampled: int
    quantiles: tuple[float, ...]


def spreads(connection: Connection, chosen: Chosen, period: Period, clock: Clock) -> list[Spread]:
    """Return the periods in order, without those that have no scores; neighbours are joined where they are too many."""
    table, _ = table_of(of_views=chosen.of_views)
    hours = select(table.c.hour).where(*chosen.where(table), table.c.scored > 0).distinct().order_by(table.c.hour)
    periods: _Periods = {}
    for hour in connection.execute(hours).scalars():
        periods.setdefault(clock.period(hour, period), []).append(hour)
    if not periods:
        return []
    periods = _joined(periods, -(-len(periods) // MOST_PERIODS))
    each = min(_MOST_HOURS, max(2, _HOURS // len(periods)))
    of_hour = {hour: bounds for bounds, found in periods.items() for hour in _spread(found, each)}
    scores: dict[tuple[datetime, datetime], list[float]] = {}
    for hour, score in _sample(connection, chosen, sorted(of_hour)):
        scores.setdefault(of_hour[hour], []).append(score)
    return [
        Spread(*bounds, len(found), tuple(map(float, np.quantile(found, QUANTILES))))
        for bounds in periods
        if (found := scores.get(bounds))
    ]


def _spread(hours: list[datetime], count: int) -> list[datetime]:
    """Return `count` of the hours, evenly apart."""
    if len(hours) <= count:
        return hours
    return [hours[int((index + 0.5) * len(hours) / count)] for index in range(count)]


def _joined(periods: _Periods, together: int) -> _Periods:
    """Join so many neighbours each."""
    found = list(periods.items())
    groups = [found[begin : begin + together] for begin in range(0, len(found), together)]
    return {(group[0][0][0], group[-1][0][1]): [hour for _, hours in group for hour in hours] for group in groups}


def _sample(connection: Connection, chosen: Chosen, hours: list[datetime]) -> Any:  # noqa: ANN401 - rows
    """Return hour and score of the first parts of each hour that are as they are meant."""
    wanted = values(column("hour", DateTime(timezone=True)), name="wanted").data([(hour,) for hour in hours]).cte()
    meant = [verdict.c[name] == value for name in _OF_PART if (value := getattr(chosen, name)) is not None]
    within = (verdict.c.trigger_time >= wanted.c.hour, verdict.c.trigger_time < wanted.c.hour + _HOUR)
    score, rows = verdict.c.score, verdict
    found = select(score.label("score"))
    if chosen.of_views:
        score = view.c.score
        found = select(score.label("score")).join_from(verdict, view, same_part(view, verdict)).where(*_viewed(chosen))
        found = found.where(view.c.trigger_time >= wanted.c.hour, view.c.trigger_time < wanted.c.hour + _HOUR)
    finite = (score > float("-inf"), score < float("inf"))
    some = found.where(*within, *meant, *finite).order_by(rows.c.trigger_time).limit(_PARTS).correlate(wanted).lateral()
    return connection.execute(select(wanted.c.hour, some.c.score).select_from(wanted.join(some, true())))


def _viewed(chosen: Chosen) -> list[Any]:
    meant = [] if chosen.camera is None else [view.c.camera == chosen.camera]
    if chosen.bundle is not None:
        meant.append(func.strpos(view.c.bundle_digest, chosen.bundle).in_((1, len("sha256:") + 1)))
    return meant
