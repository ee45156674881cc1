"""How many parts there are and were: from the tallies where these can tell, else by looking at so many rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, select, union_all

from config.errors import InputError
from config.messages import Judgement
from storage.answers import Bucket, Counts, Rate, Rates
from storage.conditions import conditions, of_tally
from storage.filters import Filter
from storage.schema import tally, verdict
from storage.search import Chunk, Scope, Search

COUNTED = 10_000  # parts that are counted one by one
FOR_COUNTS, FOR_RATES = 12_000, 32_000  # rows that are looked at for one answer
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
_Sums = tuple[int, int, float]  # parts, scored, sum of their scores
_NONE: _Sums = (0, 0, 0.0)


def counts(search: Search) -> Counts:
    """Return how many parts there are, by verdict."""
    found: defaultdict[str, int] = defaultdict(int)
    at_least = False
    if search.chosen.by_tally:
        for row in search.connection.execute(_tallied(search.chosen, search.scope, None)):
            found[row.verdict] += int(row.parts)
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
    verdicts = {judgement: found.get(judgement.value, 0) for judgement in Judgement}
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
    sums: dict[datetime, dict[str, _Sums]] = {}
    for of, parts, scored, score_sum, start in rows:
        of_bucket = sums.setdefault(start, {})
        before = of_bucket.get(of, _NONE)
        of_bucket[of] = (before[0] + int(parts), before[1] + int(scored), before[2] + (score_sum or 0.0))
    points = tuple(_point(start.astimezone(UTC), sums[start]) for start in sorted(sums))
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
        sums = (tally.c.parts, tally.c.scored, tally.c.score_sum)
        columns = (tally.c.verdict, *(func.sum(column).label(column.name) for column in sums))
        pieces.append(_by(select(*columns).where(*hours), tally.c.hour, tally.c.verdict, bucket))
    for begin, end in ((low, min(first, high)), (max(last, low), high)) if first <= last else ((low, high),):
        if begin < end:
            within = (verdict.c.trigger_time >= begin, verdict.c.trigger_time < end)
            counted = _sums(verdict, select).where(*within, *conditions(chosen, verdict))
            pieces.append(_by(counted, verdict.c.trigger_time, verdict.c.verdict, bucket))
    return select(union_all(*pieces).subquery())


def _grouped(chunk: Chunk, bucket: Bucket) -> Select[Any]:
    """Return the statement for the parts of a chunk in buckets."""
    return _by(_sums(chunk.part, chunk.select), chunk.part.c.trigger_time, chunk.part.c.verdict, bucket)


def _sums(part: FromClause, of: Callable[..., Select[Any]]) -> Select[Any]:
    score = part.c.score
    return of(
        part.c.verdict,
        func.count().label("parts"),
        func.count(score).label("scored"),
        func.sum(score).label("score_sum"),
    )


def _by(sums: Select[Any], time: ColumnElement[Any], of: ColumnElement[str], bucket: Bucket | None) -> Select[Any]:
    """Return sums by verdict, and by bucket where one is named."""
    if bucket is None:
        return sums.group_by(of)
    start = func.date_bin(_LENGTHS[bucket], time, _MONDAY).label("start")
    return sums.add_columns(start).group_by(of, start)


def _whole_hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _point(start: datetime, of_verdict: dict[str, _Sums]) -> Rate:
    parts, scored, score_sum = (sum(sums[index] for sums in of_verdict.values()) for index in range(3))
    return Rate(
        start=start,
        parts=int(parts),
        verdicts={judgement: of_verdict.get(judgement.value, _NONE)[0] for judgement in Judgement},
        scored=int(scored),
        mean_score=score_sum / scored if scored else None,
    )
