"""What a filter says in SQL, and where it pays to look for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.types import UserDefinedType

from config.messages import Judgement, Reason
from storage.query.filters import Filter, ReviewState
from storage.schema import HOUR, defect, gate_report, hold, review, tally, verdict, view

NOTABLE_VERDICTS = frozenset(Judgement) - {Judgement.PASS}
_EQUAL = ("line", "station", "product", "recipe", "recipe_version", "part_id", "run", "challenge")
_LOOKUP = 10  # rows that are looked at while one is looked up in another table: both tables are in one order
_JUMP = 25  # while a part is looked up here and there
_FREQUENT = (Reason.ABOVE_THRESHOLD, Reason.GRAY_ZONE)  # every REJECT or REVIEW has one of them
_Range = tuple[ColumnElement[Any], float | None, float | None]
_LAST_WORDS = {ReviewState.GOOD: "GOOD", ReviewState.DEFECT: "DEFECT", ReviewState.UNSURE: "UNSURE"}


@dataclass(frozen=True)
class Source:
    """Rows of one table among which all the parts lie that a filter means: it says of them what `where` says.

    `ordered`: an index gives them by time; others are worth it only where they are few. `rare`: they may well be few.
    `notable`: they are all that did not pass.
    """

    table: Table
    where: tuple[ColumnElement[bool], ...] = ()
    ordered: bool = True
    rare: bool = True
    notable: bool = False


def sources(chosen: Filter) -> list[Source]:
    """Return where the parts that are meant can be looked for, from what is likely rare to all of them."""
    found = list(_by_people(chosen.review))
    if chosen.gate_confirmed is False:
        found.append(Source(gate_report, (~gate_report.c.confirmed,)))
    if chosen.challenge:
        found.append(Source(verdict, (verdict.c.challenge,)))
    notable = verdict.c.verdict != Judgement.PASS.value
    if chosen.reason is not None and chosen.reason not in _FREQUENT:  # a PASS has none
        found.append(Source(verdict, (notable, verdict.c.reasons.contains([chosen.reason.value])), ordered=False))
    if chosen.by_defect:
        placed = list(_placed(chosen))
        if placed:
            found.append(Source(defect, (*placed, *of_defect(chosen, place=False)), ordered=False))
        ordered = chosen.verdicts != {Judgement.FAULT}  # which is rarer than a defect
        found.append(Source(defect, tuple(of_defect(chosen)), ordered=ordered, rare=not placed))
    if chosen.score_min is not None or chosen.score_max is not None:
        found.append(Source(verdict, tuple(_score(chosen, verdict)), ordered=False))
    if chosen.reason is not None or (chosen.verdicts and chosen.verdicts <= NOTABLE_VERDICTS):
        found.append(Source(verdict, (notable,), rare=False, notable=True))
    return [*found, Source(verdict, rare=False)]


def whole(chosen: Filter) -> list[ColumnElement[bool]]:
    """Return all that a filter says of a row of `verdict`."""
    found = conditions(chosen, verdict)
    if chosen.since is not None:
        found.append(verdict.c.trigger_time >= chosen.since)
    if chosen.until is not None:
        found.append(verdict.c.trigger_time < chosen.until)
    return found


def conditions(
    chosen: Filter, row: FromClause, bundles: Sequence[str] | None = None, source: Source | None = None
) -> list[ColumnElement[bool]]:
    """Return all that a filter says of a row of `verdict`, but its time and what `source` has said already.

    `bundles` are those that are meant, if that is known.
    """
    found: list[ColumnElement[bool]] = [
        row.c[name] == value for name in _EQUAL if (value := getattr(chosen, name)) is not None
    ]
    if chosen.verdicts and not (source and source.notable and chosen.verdicts >= NOTABLE_VERDICTS):
        found.append(row.c.verdict.in_(sorted(chosen.verdicts)))
    if chosen.reason is not None:
        found.append(row.c.reasons.contains([chosen.reason.value]))
    found += _score(chosen, row)
    return found + [
        has for table, has in _looked_up(chosen, row, bundles) if source is None or table is not source.table
    ]


def lookups(chosen: Filter, source: Source) -> int:
    """Return how many rows could be looked at in the time that it takes to look up all that there is to a row."""
    found = sum(_LOOKUP for table, _ in _looked_up(chosen, verdict, None) if table is not source.table)
    return found + (0 if source.table is verdict else _JUMP)


def of_defect(chosen: Filter, row: FromClause = defect, *, place: bool = True) -> Iterator[ColumnElement[bool]]:
    """Yield what a filter says of one row of `defect`, if anything, with or without its place."""
    if not chosen.by_defect:
        return
    for name in ("camera", "product", "defect_class"):
        if getattr(chosen, name) is not None:
            yield row.c[name] == getattr(chosen, name)
    ranges: list[_Range] = [(row.c.area_px, chosen.area_min_px, chosen.area_max_px)]
    if place:
        ranges.append((row.c.center_x, chosen.x_min, chosen.x_max))
        ranges.append((row.c.center_y, chosen.y_min, chosen.y_max))
    for column, least, most in ranges:
        if least is not None:
            yield column >= least
        if most is not None:
            yield column <= most


def of_tally(chosen: Filter) -> Iterator[ColumnElement[bool]]:
    """Yield what a filter says of a row of `tally`, but its time."""
    for name in ("station", "line", "product", "recipe", "recipe_version"):
        value = getattr(chosen, name)
        if value is not None:
            yield tally.c[name] == value
    if chosen.verdicts:
        yield tally.c.verdict.in_(sorted(chosen.verdicts))


def bundle_in_hour(bundles: Sequence[str]) -> ColumnElement[bool]:
    """Return whether one of the bundles judged anything in the hour of a tally."""
    judged = select(1).where(
        view.c.bundle_digest.in_(bundles),
        text(f"{HOUR} = tally.hour"),
        view.c.trigger_time >= tally.c.hour,
        view.c.trigger_time < tally.c.hour + text("interval '1 hour'"),
    )
    return judged.offset(0).correlate(tally).exists()


class _Geometry(UserDefinedType[Any]):
    """PostgreSQL's points and boxes, as far as we need them: as values of functions."""

    cache_ok = True


def _point(x: object, y: object) -> ColumnElement[Any]:
    return func.point(x, y, type_=_Geometry())


def _placed(chosen: Filter) -> Iterator[ColumnElement[bool]]:
    """Yield what a filter says of a defect's place, if anything, for the index of places.

    That index is for few: PostgreSQL takes any box for a small one.
    """
    corners = (chosen.x_min, chosen.y_min, chosen.x_max, chosen.y_max)
    if any(value is not None for value in corners):
        left, top, right, bottom = (
            default if value is None else value for value, default in zip(corners, (0.0, 0.0, 1.0, 1.0), strict=True)
        )
        box = func.box(_point(left, top), _point(right, bottom), type_=_Geometry())
        yield _point(defect.c.center_x, defect.c.center_y).op("<@", is_comparison=True)(box)


def _score(chosen: Filter, row: FromClause) -> Iterator[ColumnElement[bool]]:
    if chosen.score_min is not None:
        yield row.c.score >= chosen.score_min
    if chosen.score_max is not None:
        yield row.c.score <= chosen.score_max


def _by_people(state: ReviewState | None) -> Iterator[Source]:
    match state:
        case ReviewState.HELD:
            yield Source(hold)
        case ReviewState.REVIEWED | ReviewState.DISPUTED:
            yield Source(review)
        case ReviewState.GOOD | ReviewState.DEFECT | ReviewState.UNSURE:
            yield Source(review, (review.c.finding == _LAST_WORDS[state],))


def _looked_up(
    chosen: Filter, row: FromClause, bundles: Sequence[str] | None
) -> Iterator[tuple[Table | None, ColumnElement[bool]]]:
    """Yield what the part's rows in other tables must say, and the table whose rows say it by themselves."""
    if chosen.camera is not None or chosen.bundle is not None:
        of_view = [] if chosen.camera is None else [view.c.camera == chosen.camera]
        if chosen.bundle is not None:
            of_view.append(_starts(chosen.bundle) if bundles is None else view.c.bundle_digest.in_(bundles))
        yield view, _has(row, view, *of_view)
    if chosen.gate_confirmed is not None:
        confirmed = gate_report.c.confirmed if chosen.gate_confirmed else ~gate_report.c.confirmed
        yield gate_report, _has(row, gate_report, confirmed)
    if chosen.by_defect:
        yield defect, _has(row, defect, *of_defect(chosen))
    match chosen.review:
        case None:
            pass
        case ReviewState.HELD:
            yield hold, _has(row, hold)
        case ReviewState.REVIEWED:
            yield review, _has(row, review)
        case ReviewState.UNREVIEWED:
            yield review, ~_has(row, review)
        case _:
            yield None, _last_words(chosen.review, row)


def _has(row: FromClause, table: Table, *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return whether the part has such a row.

    OFFSET keeps PostgreSQL from reading the other table whole, where it thinks that this is cheaper than to look up
    part by part; it knows neither that the tables are in one order nor that a page needs but few parts.
    """
    same = (table.c.part_id == row.c.part_id, table.c.trigger_time == row.c.trigger_time)
    return select(1).where(*same, *where).offset(0).correlate(row).exists()


def _starts(digits: str) -> ColumnElement[bool]:
    return or_(*(func.starts_with(view.c.bundle_digest, f"{seal}{digits}") for seal in ("sha256:", "")))


def _last_words(state: ReviewState, row: FromClause) -> ColumnElement[bool]:
    """Return whether the reviewers' last words on the whole part are all alike and as `state` says, or differ."""
    words = (
        select(review.c.finding)
        .ext(distinct_on(review.c.reviewer))
        .where(review.c.part_id == row.c.part_id, review.c.camera.is_(None), review.c.region.is_(None))
        .order_by(review.c.reviewer, review.c.number.desc())
        .correlate(row)
        .lateral()
    )
    least, most = func.min(words.c.finding), func.max(words.c.finding)
    said = least != most if state is ReviewState.DISPUTED else and_(least == most, least == _LAST_WORDS[state])
    return select(said).select_from(words).scalar_subquery()
