"""How many parts there are and were: from the tallies where these can tell, else by looking at so many rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Function, Select, func, select, union_all

from config.errors import InputError
from config.messages import Judgement
from storage.query.answers import Bucket, Counts, Rate, Rates
from storage.query.conditions import conditions, of_tally
from storage.query.filters import Filter
from storage.query.scope import Scope
from storage.query.search import Chunk, Search
from storage.schema import tally, verdict

COUNTED = 4_000  # parts that are counted one by one
FOR_COUNTS, FOR_RATES = 4_000, 12_000  # rows that are looked at for one answer
_MOST_BUCKETS = 5_000
_HOUR = timedelta(hours=1)
_LENGTHS = {
    Bucket.MINUTE: timedelta(minutes=1),
    Bucket.HOUR: _HOUR,
    Bucket.DAY: timedelta(days=1),
    Bucket.WEEK: timedelta(weeks=1),
}
_MINUTES = timedelta(hours=6)  # that can be asked for by the minute
_MONDAY = datetime(2000, 1, 3, tzinfo=UTC)


def counts(search: Search) -> Counts:
    """Return how many parts there are, by verdict."""
    found: defaultdict[str, int] = defaultdict(int)
    at_least = False
    if search.chosen.by_tally:
        for row in search.connection.execute(_tallied(search.chosen, search.scope, None)):
            for judgement in Judgement:
                found[judgement] += int(getattr(row, judgement) or 0)
    else:
        for chunk in search.chunks(FOR_COUNTS):
            left = COUNTED + 1 - sum(found.values())
            some = chunk.select(chunk.part.c.verdict).limit(left).subquery()
            counted = select(some.c.verdict, func.count().label("parts")).group_by(some.c.verdict)
            for row in search.connection.execute(counted):
                found[row.verdict] += row.parts
            if sum(found.values()) > COUNTED:
                found[row.verdict] -= 1  # the one that shows that there are more
                at_least = True
                break
        at_least |= search.stopped_at is not None
    verdicts = {judgement: found.get(judgement, 0) for judgement in Judgement}
    return Counts(total=sum(verdicts.values()), verdicts=verdicts, at_least=at_least)


def rates(search: Search, bucket: Bucket) -> Rates:
    """Return how many parts there were in each bucket; raise InputError where there would be too many buckets."""
    length = search.scope.high - search.scope.low
    if bucket is Bucket.MINUTE and length > _MINUTES:
        raise InputError(f"bucket: minutes can be asked for up to {_MINUTES}, not for {length}: choose since and until")
    if length / _LENGTHS[bucket] > _MOST_BUCKETS:
        raise InputError(f"bucket: {length} have more than {_MOST_BUCKETS} of a {bucket}: choose longer ones")
    if search.chosen.by_tally and bucket is not Bucket.MINUTE:
        rows = search.connection.execute(_tallied(search.chosen, search.scope, bucket)).all()
    else:
        chunks = search.chunks(FOR_RATES)
        rows = [row for chunk in chunks for row in search.connection.execute(_grouped(chunk, bucket))]
    searched_to = search.stopped_at.trigger_time if search.stopped_at else None
    sums: dict[datetime, list[float]] = {}
    for start, *of_piece in rows:
        of_bucket = sums.setdefault(start, [0] * len(of_piece))
        for index, value in enumerate(of_piece):
            of_bucket[index] += value or 0
    points = tuple(_point(start.astimezone(UTC), *sums[start]) for start in sorted(sums))
    return Rates(bucket=bucket, points=points, searched_to=searched_to)


def _tallied(chosen: Filter, bounds: Scope, bucket: Bucket | None) -> Select[Any]:
    """Return the statement for whole hours from the tallies, and for what lies beside them from the parts."""
    low, high = bounds.low, bounds.high
    begun, ended = _whole_hour(low), _whole_hour(high)
    # where only `seen` bounds the time there is nothing before or after it
    first = begun if low != chosen.since or begun == low else begun + _HOUR
    last = ended if high == chosen.until else ended + _HOUR
    pieces = []
    if first < last:
        hours = (tally.c.hour >= first, tally.c.hour < last, *of_tally(chosen))
        sums = (func.sum(tally.c.scored), func.sum(tally.c.score_sum), *_judged(tally, func.sum(tally.c.parts)))
        pieces.append(_by(select(*sums).where(*hours), tally.c.hour, bucket))
    for begin, end in ((low, min(first, high)), (max(last, low), high)) if first <= last else ((low, high),):
        if begin < end:
            within = (verdict.c.trigger_time >= begin, verdict.c.trigger_time < end)
            counted = select(*_sums(verdict)).where(*within, *conditions(chosen, verdict))
            pieces.append(_by(counted, verdict.c.trigger_time, bucket))
    return select(union_all(*pieces).subquery())


def _grouped(chunk: Chunk, bucket: Bucket) -> Select[Any]:
    """Return the statement for the parts of a chunk in buckets."""
    return _by(chunk.select(*_sums(chunk.part)), chunk.part.c.trigger_time, bucket)


def _sums(part: FromClause) -> tuple[ColumnElement[Any], ...]:
    """Return the sums over parts: how many are scored, their scores, and how many were judged how."""
    return (func.count(part.c.score), func.sum(part.c.score), *_judged(part, func.count()))


def _judged(rows: FromClause, parts: Function[Any]) -> Iterator[ColumnElement[Any]]:
    return (parts.filter(rows.c.verdict == judgement).label(judgement.value) for judgement in Judgement)


def _by(sums: Select[Any], time: ColumnElement[Any], bucket: Bucket | None) -> Select[Any]:
    """Return sums, of each bucket where one is named; the bucket's start comes first."""
    if bucket is None:
        return sums
    start = func.date_bin(_LENGTHS[bucket], time, _MONDAY).label("start")
    return sums.with_only_columns(start, *sums.selected_columns).group_by(start)


def _whole_hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _point(start: datetime, scored: float, score_sum: float, *judged: float) -> Rate:
    parts = [int(number) for number in judged]
    return Rate(
        start=start,
        parts=sum(parts),
        verdicts=dict(zip(Judgement, parts, strict=True)),
        scored=int(scored),
        mean_score=score_sum / int(scored) if scored else None,
    )
