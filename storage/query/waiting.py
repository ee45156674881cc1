"""Parts that wait for a reviewer: what is in the sample, has a picture, and has not been found anything yet.

The history is gone through by time in spans of so many rows, one after the other, until there are enough parts or the
bound on the work is reached; then `after` goes on from there. Of a product only the hours that have any, by the
tallies, are gone through. For a second opinion the reviews are gone through instead, which people have written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, Row, Select, Text, and_, func, literal, or_, select, tuple_

from config.messages import Judgement
from storage.query.filters import Filter
from storage.query.scope import scope
from storage.query.search import Key
from storage.sampling import in_sample
from storage.schema import NOTABLE, WHOLE, image, review, tally, verdict, view

_FIRST, _NEXT, _MOST = 1_000, 10_000, 40_000  # rows that are looked at: in a span, and for one answer
_HOUR = timedelta(hours=1)


class Opinion(StrEnum):
    """Which parts are given to a reviewer."""

    FIRST = "first"  # nobody has said anything of them
    SECOND = "second"  # others have, and the reviewer has not


@dataclass(frozen=True)
class Wanted:
    """What a reviewer wants to see; `sample` is the rate of each verdict, 0 where it is not wanted."""

    reviewer: str
    sample: Mapping[Judgement, float]
    opinion: Opinion = Opinion.FIRST
    oldest_first: bool = False
    product: str | None = None
    camera: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    others: Collection[str] = ()  # parts that somebody else has before them


@dataclass
class _Span:
    """Rows from one key to another, none of the two included where it is one that was seen."""

    low: datetime
    high: datetime
    after: Key | None
    end: Key | None = None


def waiting(
    connection: Connection, wanted: Wanted, after: Key | None, limit: int
) -> tuple[list[Row[Any]], Key | None, bool]:
    """Return keys of at most `limit` parts, the key that others follow (None: none), and whether it stopped there."""
    chosen = Filter(product=wanted.product, camera=wanted.camera, since=wanted.since, until=wanted.until)
    bounds = scope(connection, chosen)
    if bounds is None or not any(wanted.sample.values()):
        return [], None, False
    span = _Span(bounds.low, bounds.high, after)
    _begin(span, wanted)
    found: list[Row[Any]] = []
    looked_at, rows = 0, _FIRST
    while looked_at < _MOST:
        if not _skip(connection, wanted, span):
            return found, None, False
        span.end = _nth(connection, wanted, span, rows)
        found += connection.execute(_candidates(wanted, span).limit(limit + 1 - len(found)))
        if len(found) > limit:
            found = found[:limit]
            return found, Key(found[-1].trigger_time, found[-1].part_id), False
        if span.end is None:
            return found, None, False
        span.after, span.end = span.end, None
        _begin(span, wanted)
        looked_at, rows = looked_at + rows, _NEXT
    return found, span.after, True


def _begin(span: _Span, wanted: Wanted) -> None:
    """Let a span begin at the key that it follows."""
    if span.after is None:
        return
    if wanted.oldest_first:
        span.low = max(span.low, span.after.trigger_time)
    else:
        span.high = min(span.high, span.after.trigger_time + timedelta(microseconds=1))


def _skip(connection: Connection, wanted: Wanted, span: _Span) -> bool:
    """Let a span begin in the next hour that has such parts, by the tallies; False: there is none."""
    if span.low >= span.high or (
        wanted.opinion is not Opinion.FIRST and not _skip_to_reviewed(connection, wanted, span)
    ):
        return False
    judged = [judgement.value for judgement, rate in wanted.sample.items() if rate > 0]
    meant = [tally.c.verdict.in_(judged), tally.c.hour > span.low - _HOUR, tally.c.hour < span.high]
    if wanted.product is not None:
        meant.append(tally.c.product == wanted.product)
    nearest = func.min(tally.c.hour) if wanted.oldest_first else func.max(tally.c.hour)
    hour: datetime | None = connection.execute(select(nearest).where(*meant)).scalar()
    if hour is None:
        return False
    if wanted.oldest_first:
        span.low = max(span.low, hour)
    else:
        span.high = min(span.high, hour + _HOUR)
    return True


def _skip_to_reviewed(connection: Connection, wanted: Wanted, span: _Span) -> bool:
    """Let a span hold no more than what others have reviewed, which is little beside all parts; False: nothing."""
    first, last = connection.execute(
        select(func.min(review.c.trigger_time), func.max(review.c.trigger_time)).where(
            *_between(review, wanted, span), *_of_others(wanted)
        )
    ).one()
    if first is None:
        return False
    span.low, span.high = max(span.low, first), min(span.high, last + timedelta(microseconds=1))
    return True


def _of_others(wanted: Wanted) -> list[ColumnElement[bool]]:
    """Return what the reviews are that somebody can be the second to."""
    return [review.c.camera.is_(None), review.c.reviewer != wanted.reviewer]


def _nth(connection: Connection, wanted: Wanted, span: _Span, rows: int) -> Key | None:
    """Return the key of the last of so many rows of a span; None where it has fewer."""
    table = verdict if wanted.opinion is Opinion.FIRST else review
    key = (table.c.trigger_time, table.c.part_id)
    statement = select(*key).where(*_between(table, wanted, span))
    if table is verdict and not wanted.sample.get(Judgement.PASS):
        statement = statement.where(NOTABLE)
    found = connection.execute(_ordered(statement, wanted, *key).offset(rows - 1).limit(1)).first()
    return None if found is None else Key(found.trigger_time, found.part_id)


def _candidates(wanted: Wanted, span: _Span) -> Select[Any]:
    """Return the statement for the keys of the parts of a span that wait, in order."""
    key = (verdict.c.trigger_time, verdict.c.part_id)
    sample = [
        and_(verdict.c.verdict == judgement.value, in_sample(verdict.c.part_id, rate))
        for judgement, rate in wanted.sample.items()
        if rate > 0
    ]
    meant = [*_between(verdict, wanted, span), or_(*sample), _pictured()]
    if not wanted.sample.get(Judgement.PASS):
        meant.append(NOTABLE)  # type: ignore[arg-type]  # a condition in words, as the partial index has it
    if wanted.product is not None:
        meant.append(verdict.c.product == wanted.product)
    if wanted.camera is not None:
        meant.append(_has(view, view.c.camera == wanted.camera))
    if wanted.others:
        meant.append(verdict.c.part_id.not_in(sorted(wanted.others)))
    said = review.c.camera.is_(None)
    if wanted.opinion is Opinion.FIRST:
        meant.append(~_has(review, said))
    else:
        meant += [_has(review, said), ~_has(review, said, review.c.reviewer == wanted.reviewer)]
        seen = select(review.c.part_id).where(*_between(review, wanted, span), *_of_others(wanted))
        meant.append(verdict.c.part_id.in_(seen))
    return _ordered(select(*key).where(*meant), wanted, *key)


def _between(table: Any, wanted: Wanted, span: _Span) -> list[ColumnElement[bool]]:  # noqa: ANN401 - a Table, or its like
    """Return what a span says of a row: by its times, which partitions are pruned by, and by its keys."""
    time, key = table.c.trigger_time, tuple_(table.c.trigger_time, table.c.part_id)
    low, high = span.low, span.high
    meant = [time >= low, time < high]
    if span.after is not None:
        after = _literal(span.after)
        meant.append(key > after if wanted.oldest_first else key < after)
    if span.end is not None:
        end = _literal(span.end)
        meant.append(key <= end if wanted.oldest_first else key >= end)
        meant.append(time <= span.end.trigger_time if wanted.oldest_first else time >= span.end.trigger_time)
    return meant


def _literal(key: Key) -> ColumnElement[Any]:
    return tuple_(literal(key.trigger_time, DateTime(timezone=True)), literal(key.part_id, Text))


def _ordered(statement: Select[Any], wanted: Wanted, *key: ColumnElement[Any]) -> Select[Any]:
    return statement.order_by(*(column.asc() if wanted.oldest_first else column.desc() for column in key))


def _pictured() -> ColumnElement[bool]:
    """Return whether a whole picture of the part is kept: nobody can tell anything of one without."""
    return _has(image, image.c.purpose == "image", image.c.region == WHOLE)


def _has(table: Any, *where: ColumnElement[bool]) -> ColumnElement[bool]:  # noqa: ANN401 - a Table
    """Return whether the part has such a row; OFFSET makes PostgreSQL look it up, part by part."""
    same = (table.c.part_id == verdict.c.part_id, table.c.trigger_time == verdict.c.trigger_time)
    return select(1).where(*same, *where).offset(0).correlate(verdict).exists()
