"""A reviewer's desk: what waits to be looked at, and what all the looking has told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Select, and_, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on

from config.errors import InputError
from config.messages import Judgement
from storage.query.answers import Part
from storage.query.conditions import bundle_in_hour
from storage.query.confusion import Confusion, Reviewed, defective, escapes, false_rejects
from storage.query.filters import Filter
from storage.query.kappa import Kappa, cohen
from storage.query.lines import lines, whole
from storage.query.scope import scope
from storage.query.service import QueryService, cursor, read_cursor
from storage.query.waiting import Wanted, waiting
from storage.reviews import Finding, Hold
from storage.sampling import in_sample
from storage.schema import hold, review, tally, verdict, view

MOST = 50_000  # reviews that one answer goes through, the latest ones
_LATEST = 5_000  # reviews whose classes are the ones in use
_CLASSES = 50
_HOUR = timedelta(hours=1)
_FINDINGS = tuple(Finding)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WaitingPart(_Answer):
    """A part that waits for a reviewer."""

    part: Part
    hold: Hold | None


class Queue(_Answer):
    """Parts that wait; pass `after` to get the ones that follow (None: there are no more).

    With `searched_to` the answer looked at as many parts as it may; what lies beyond that time follows `after`.
    """

    parts: tuple[WaitingPart, ...]
    after: str | None
    searched_to: datetime | None


class DefectClass(_Answer):
    """A class of defects that reviewers have named, and how often lately."""

    name: str
    reviews: int


class Pair(_Answer):
    """Two reviewers, and the parts that both have said something of: `counts[i][j]` of them GOOD, DEFECT, UNSURE."""

    first: str
    second: str
    parts: int
    agreed: int
    counts: tuple[tuple[int, ...], ...]  # rows: what the first says
    kappa: float | None  # Cohen's; None where both say the same one thing of all
    low: float | None  # of its 95 % interval
    high: float | None


class Agreement(_Answer):
    """How well reviewers agree; their last words on whole parts count."""

    since: datetime | None  # None: from the first review on
    parts: int  # that two or more have looked at
    disputed: int
    pairs: tuple[Pair, ...]  # those with the most parts first


class Desk:
    """What reviewers ask; safe to use from several threads. Errors are as those of `QueryService`."""

    def __init__(self, service: QueryService) -> None:
        self._service = service

    def queue(self, wanted: Wanted, after: str | None = None, limit: int = 4) -> Queue:
        """Return parts that wait for a reviewer, in the order that is wanted."""
        key = None if after is None else read_cursor(after)
        with self._service.connected() as connection:
            keys, end, stopped = waiting(connection, wanted, key, limit)
            found = {part.part_id: part for part in whole(connection, lines(connection, keys))}
            held = _holds(connection, list(found))
        parts = (found[one.part_id] for one in keys if one.part_id in found)
        return Queue(
            parts=tuple(WaitingPart(part=part, hold=held.get(part.part_id)) for part in parts),
            after=None if end is None else cursor(end),
            searched_to=end.trigger_time.astimezone(UTC) if end and stopped else None,
        )

    def classes(self) -> tuple[DefectClass, ...]:
        """Return the classes of defects that reviewers use, the most frequent first."""
        lately = review.c.number > select(func.max(review.c.number) - _LATEST).scalar_subquery()
        counted = func.count().label("reviews")
        wanted = select(review.c.defect_class.label("name"), counted).where(lately, review.c.defect_class.is_not(None))
        wanted = wanted.group_by(review.c.defect_class).order_by(counted.desc(), review.c.defect_class).limit(_CLASSES)
        with self._service.connected() as connection:
            return tuple(DefectClass(**row) for row in connection.execute(wanted).mappings())

    def confusion(self, chosen: Filter, sample: Mapping[Judgement, float]) -> Confusion:
        """Return verdicts against findings of the parts that product, bundle and times of a filter mean.

        Times are taken to whole hours. Challenge parts are left out of the findings: they are known to be bad.
        """
        _check(chosen, {"product", "bundle", "since", "until"})
        chosen = chosen.model_copy(update={"since": _hour(chosen.since), "until": _hour(chosen.until, up=True)})
        with self._service.connected() as connection:
            since = _later(chosen.since, _first_of_latest(connection, chosen))
            chosen = chosen.model_copy(update={"since": since})
            bounds = scope(connection, chosen)
            bundles = bounds.bundles if bounds else ()
            parts = _parts(connection, chosen, bundles) if bounds else {}
            found = _found(connection, chosen, bundles, sample) if bounds else {}
        verdicts = []
        for judgement in Judgement:
            said = {finding: count for (judged, finding), count in found.items() if judged == judgement.value}
            good, bad = said.get(Finding.GOOD.value, 0), said.get(Finding.DEFECT.value, 0)
            undecided = sum(said.values()) - good - bad
            count = max(parts.get(judgement.value, 0), good + bad + undecided)
            numbers = {"parts": count, "good": good, "defect": bad, "undecided": undecided}
            verdicts.append(Reviewed(verdict=judgement, rate=sample[judgement], **numbers))
        return Confusion(
            since=since,
            until=chosen.until,
            verdicts=tuple(verdicts),
            false_rejects=false_rejects(verdicts),
            escapes=escapes(verdicts),
            defective=defective(verdicts),
        )

    def agreement(self, chosen: Filter) -> Agreement:
        """Return how well reviewers agree on the parts that product and times of a filter mean."""
        _check(chosen, {"product", "since", "until"})
        with self._service.connected() as connection:
            since = _later(chosen.since, _first_of_latest(connection, chosen))
            words = _last_words(chosen.model_copy(update={"since": since}))
            wanted: Select[Any] = select(words.c.part_id, words.c.reviewer, words.c.finding)
            if chosen.product is not None:
                wanted = wanted.join(verdict, _same(words)).where(verdict.c.product == chosen.product)
            said: dict[str, dict[str, Finding]] = defaultdict(dict)
            for row in connection.execute(wanted):
                said[row.part_id][row.reviewer] = Finding(row.finding)
        shared = [of_part for of_part in said.values() if len(of_part) > 1]
        tables: dict[tuple[str, str], Counter[tuple[Finding, Finding]]] = defaultdict(Counter)
        for of_part in shared:
            for first, second in combinations(sorted(of_part), 2):
                tables[first, second][of_part[first], of_part[second]] += 1
        pairs = [_pair(first, second, table) for (first, second), table in tables.items()]
        return Agreement(
            since=since,
            parts=len(shared),
            disputed=sum(len(set(of_part.values())) > 1 for of_part in shared),
            pairs=tuple(sorted(pairs, key=lambda pair: (-pair.parts, pair.first, pair.second))),
        )


def _check(chosen: Filter, allowed: set[str]) -> None:
    if wrong := sorted(chosen.model_fields_set - allowed):
        raise InputError(f"{', '.join(wrong)}: this is told by {', '.join(sorted(allowed))} only")


def _hour(moment: datetime | None, *, up: bool = False) -> datetime | None:
    if moment is None:
        return None
    whole = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return whole + _HOUR if up and whole < moment else whole


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((time for time in (one, other) if time is not None), default=None)


def _times(table: Any, chosen: Filter) -> list[Any]:  # noqa: ANN401 - a Table, or its like; conditions
    column = table.c.hour if table is tally else table.c.trigger_time
    meant = [] if chosen.since is None else [column >= chosen.since]
    return meant if chosen.until is None else [*meant, column < chosen.until]


def _first_of_latest(connection: Connection, chosen: Filter) -> datetime | None:
    """Return the hour that the latest MOST reviews begin with, where there are more than those."""
    wanted = select(review.c.trigger_time).where(*_times(review, chosen)).order_by(review.c.trigger_time.desc())
    return _hour(connection.execute(wanted.offset(MOST).limit(1)).scalar(), up=True)


def _last_words(chosen: Filter) -> Any:  # noqa: ANN401 - a Subquery
    """Return each reviewer's last words on whole parts."""
    columns = (review.c.part_id, review.c.trigger_time, review.c.reviewer, review.c.finding)
    whole_part = (review.c.camera.is_(None), review.c.region.is_(None))
    words = select(*columns).ext(distinct_on(review.c.part_id, review.c.reviewer)).where(*whole_part)
    words = words.where(*_times(review, chosen)).order_by(review.c.part_id, review.c.reviewer, review.c.number.desc())
    return words.subquery()


def _same(words: Any) -> Any:  # noqa: ANN401 - a Subquery, and a condition
    return and_(verdict.c.part_id == words.c.part_id, verdict.c.trigger_time == words.c.trigger_time)


def _found(
    connection: Connection, chosen: Filter, bundles: Sequence[str] | None, sample: Mapping[Judgement, float]
) -> dict[tuple[str, str], int]:
    """Return of how many parts of the sample people say what, by verdict and finding; DISPUTED where they differ."""
    words = _last_words(chosen)
    least, most = func.min(words.c.finding), func.max(words.c.finding)
    agreed = select(words.c.part_id, words.c.trigger_time, least.label("least"), most.label("most"))
    agreed_words = agreed.group_by(words.c.part_id, words.c.trigger_time).subquery()
    key = (verdict.c.verdict, agreed_words.c.least, agreed_words.c.most)
    meant = [~verdict.c.challenge]
    if chosen.product is not None:
        meant.append(verdict.c.product == chosen.product)
    if chosen.bundle is not None:
        same = (view.c.part_id == verdict.c.part_id, view.c.trigger_time == verdict.c.trigger_time)
        judged = select(1).where(*same, view.c.bundle_digest.in_(bundles or ()))
        meant.append(judged.offset(0).correlate(verdict).exists())
    found: Counter[tuple[str, str]] = Counter()
    of_sample = or_(
        *(
            and_(verdict.c.verdict == judgement.value, in_sample(verdict.c.part_id, rate))
            for judgement, rate in sample.items()
        )
    )
    wanted = select(*key, func.count()).select_from(agreed_words).join(verdict, _same(agreed_words))
    for judged_as, lowest, highest, count in connection.execute(wanted.where(of_sample, *meant).group_by(*key)):
        found[judged_as, lowest if lowest == highest else "DISPUTED"] += count
    return dict(found)


def _parts(connection: Connection, chosen: Filter, bundles: Sequence[str] | None) -> dict[str, int]:
    """Return how many parts of each verdict there are, by the tallies of whole hours."""
    meant = _times(tally, chosen)
    if chosen.product is not None:
        meant.append(tally.c.product == chosen.product)
    if chosen.bundle is not None:
        meant.append(bundle_in_hour(bundles or ()))
    wanted = select(tally.c.verdict, func.sum(tally.c.parts)).where(*meant).group_by(tally.c.verdict)
    return {judged: int(count) for judged, count in connection.execute(wanted)}


def _holds(connection: Connection, part_ids: list[str]) -> dict[str, Hold]:
    found = connection.execute(select(hold).where(hold.c.part_id.in_(part_ids))).mappings()
    return {row["part_id"]: Hold(**row) for row in found}


def _pair(first: str, second: str, table: Counter[tuple[Finding, Finding]]) -> Pair:
    counts = tuple(tuple(table[one, other] for other in _FINDINGS) for one in _FINDINGS)
    kappa: Kappa | None = cohen(counts)
    return Pair(
        first=first,
        second=second,
        parts=table.total(),
        agreed=sum(counts[number][number] for number in range(len(counts))),
        counts=counts,
        kappa=kappa.value if kappa else None,
        low=kappa.low if kappa else None,
        high=kappa.high if kappa else None,
    )
