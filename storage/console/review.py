"""Reviewing: parts that wait for a person, what people say of them, and what that tells of the verdicts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from config import shifts
from config.messages import Judgement
from storage.console.access import needs
from storage.console.api import Camera, PartId
from storage.console.context import Console, TheConsole
from storage.console.language import text
from storage.console.models import Problem, local
from storage.console.rendering import render
from storage.people import Person, Role
from storage.picks import LARGEST_PAGE, Pick, PickCounts, PickPage
from storage.query.confusion import Confusion
from storage.query.desk import Agreement, DefectClass, Queue
from storage.query.filters import Filter, Moment, Name, ReviewState
from storage.query.waiting import Opinion, Wanted
from storage.reviews import LONGEST_COMMENT, LONGEST_REASON, Finding, Hold, NoSuchPartError, Review

_MOST_AT_ONCE = 20
_DISPUTED = 12  # on the page of results
_PICKS = 48  # on a page; each has a thumbnail
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "there is no such part"}}
_Blank = BeforeValidator(lambda value: None if isinstance(value, str) and not value.strip() else value)
_Name = Annotated[Name | None, _Blank]
_Time = Annotated[Moment | None, _Blank]
Operator = Annotated[Person, needs(Role.OPERATOR)]
Engineer = Annotated[Person, needs(Role.ENGINEER)]

router = APIRouter(tags=["review"])


class Within(StrEnum):
    """The times that one click chooses."""

    SHIFT = "shift"
    LAST_SHIFT = "last_shift"
    TODAY = "today"
    WEEK = "week"
    MONTH = "month"
    ALL = "all"


WITHIN = {
    Within.ALL: text("All times"),
    Within.SHIFT: text("This shift"),
    Within.LAST_SHIFT: text("Last shift"),
    Within.TODAY: text("Today"),
    Within.WEEK: text("Last 7 days"),
    Within.MONTH: text("Last 30 days"),
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueueQuery(_Model):
    """Which parts a reviewer wants to see."""

    opinion: Opinion = Field(Opinion.FIRST, description="second: parts that others have reviewed, and you have not")
    oldest_first: bool = False
    product: _Name = None
    camera: Annotated[Name | None, _Blank] = Field(None, description="the part has a view of it")
    since: _Time = None
    until: _Time = None
    verdict: tuple[Judgement, ...] = Field((), description="none: any")
    after: str | None = Field(None, max_length=400, description="`after` of the answer before")
    limit: int = Field(4, ge=1, le=_MOST_AT_ONCE)


class NewReview(_Model):
    """What somebody finds; of the whole part, or of one view or one defect of it."""

    finding: Finding
    defect_class: str | None = Field(None, max_length=64)
    comment: str = Field("", max_length=LONGEST_COMMENT)
    camera: str | None = Field(None, max_length=32)
    region: int | None = Field(None, ge=0, lt=2**15, description="index into the view's regions")


class NewHold(_Model):
    """Why a part is kept."""

    reason: str = Field(min_length=1, max_length=LONGEST_REASON)


class NewPick(_Model):
    """An image to train from: a good one, or one of a class of defects."""

    part_id: str = Field(max_length=120)
    camera: str = Field(max_length=32)
    defect_class: str | None = Field(None, max_length=64, description="null: it is good")


class Said(_Model):
    """What people have said of a part, oldest first, and its hold."""

    reviews: tuple[Review, ...]
    hold: Hold | None


class ResultsQuery(_Model):
    """Of which parts the results are; times are taken to whole hours."""

    product: _Name = None
    bundle: _Name = None
    since: _Time = None
    until: _Time = None

    def filter(self) -> Filter:
        """Return the parts that are meant."""
        return Filter.parse(self.model_dump(exclude_none=True))


class AgreementQuery(_Model):
    """Of which parts the agreement is."""

    product: _Name = None
    since: _Time = None
    until: _Time = None


class PicksQuery(_Model):
    """Which picks, and which page of them."""

    product: _Name = None
    camera: _Name = None
    after: Annotated[str | None, _Blank] = Field(None, max_length=400, description="`after` of the page before")
    limit: int = Field(50, ge=1, le=LARGEST_PAGE)


class _QueuePage(_Model):
    """What the queue's page is asked for."""

    within: Within = Within.ALL
    opinion: Opinion = Opinion.FIRST
    oldest_first: bool = False
    product: _Name = None
    camera: _Name = None
    verdict: Annotated[Judgement | None, _Blank] = None


class _ResultsPage(_Model):
    """What the page of results is asked for."""

    within: Within = Within.MONTH
    product: _Name = None
    bundle: _Name = None


class _PicksPage(_Model):
    """What the page of picks is asked for."""

    product: _Name = None
    camera: _Name = None
    after: Annotated[str | None, _Blank] = Field(None, max_length=400)


@router.get("/api/review/queue")
def queue(console: TheConsole, person: Operator, asked: Annotated[QueueQuery, Query()]) -> Queue:
    """Hand out parts that wait for a reviewer: nobody else gets them for a minute after your last word.

    Given are those of the station's sample (`review.sample` in its file) of which a picture is kept.
    """
    sample = {
        judgement: rate if not asked.verdict or judgement in asked.verdict else 0.0
        for judgement, rate in _sample(console).items()
    }
    wanted = Wanted(
        reviewer=person.name,
        sample=sample,
        others=console.claims.of_others(person.name),
        **asked.model_dump(exclude={"verdict", "after", "limit"}),
    )
    found = console.desk.queue(wanted, asked.after, asked.limit)
    taken = set(console.claims.take(person.name, [one.part.part_id for one in found.parts]))
    return found.model_copy(update={"parts": tuple(one for one in found.parts if one.part.part_id in taken)})


@router.get("/api/review/classes")
def classes(console: TheConsole) -> tuple[DefectClass, ...]:
    """Return the classes of defects that reviewers use, the most frequent first."""
    return console.desk.classes()


@router.get("/api/review/confusion")
def confusion(console: TheConsole, asked: Annotated[ResultsQuery, Query()]) -> Confusion:
    """Return verdicts against findings: false rejects and escapes, with exact 95 % intervals.

    Counted are parts of the station's sample alone; of those the reviewers' last words on the whole part, where they
    agree. At most the latest 50,000 reviews are gone through: `since` says from when on.
    """
    return console.desk.confusion(asked.filter(), _sample(console))


@router.get("/api/review/agreement")
def agreement(console: TheConsole, asked: Annotated[AgreementQuery, Query()]) -> Agreement:
    """Return how well reviewers agree on the parts that two or more have looked at: Cohen's kappa for each pair."""
    return console.desk.agreement(Filter.parse(asked.model_dump(exclude_none=True)))


@router.get("/api/parts/{part_id}/reviews")
def reviews(console: TheConsole, part_id: PartId) -> Said:
    """Return what people have said of a part."""
    found, held = console.reviews.of(part_id)
    return Said(reviews=tuple(found), hold=held)


@router.post("/api/parts/{part_id}/reviews", status_code=201, responses=_UNKNOWN)
def add_review(console: TheConsole, person: Operator, part_id: PartId, said: NewReview) -> Review:
    """Say what a part is. Reviews are added, never changed: your last word counts."""
    try:
        added = console.reviews.add(part_id, reviewer=person.name, **said.model_dump())
    except NoSuchPartError as error:
        raise HTTPException(404, str(error)) from error
    console.claims.release(person.name, part_id)
    return added


@router.post("/api/parts/{part_id}/hold", status_code=201, responses=_UNKNOWN)
def place_hold(console: TheConsole, person: Operator, part_id: PartId, said: NewHold) -> Hold:
    """Keep a part: retention removes nothing of it."""
    try:
        return console.reviews.hold(part_id, said.reason, person.name)
    except NoSuchPartError as error:
        raise HTTPException(404, str(error)) from error


@router.delete("/api/parts/{part_id}/hold")
def release_hold(
    console: TheConsole,
    person: Operator,
    part_id: PartId,
    reason: Annotated[str, Query(max_length=LONGEST_REASON)] = "",
) -> Hold:
    """Release a part, and return the hold that was."""
    return console.reviews.release(part_id, person.name, reason)


@router.get("/api/picks")
def picks(console: TheConsole, asked: Annotated[PicksQuery, Query()]) -> PickPage:
    """Return the images that are picked to train from, the last one first, until `after` is null."""
    return console.picks.page(asked.product, asked.camera, asked.after, asked.limit)


@router.get("/api/picks/counts")
def pick_counts(console: TheConsole) -> tuple[PickCounts, ...]:
    """Return how many images are picked of each product and camera."""
    return console.picks.counts()


@router.post("/api/picks", status_code=201, responses=_UNKNOWN)
def add_pick(console: TheConsole, person: Engineer, said: NewPick) -> Pick:
    """Pick an image to train from; of a view that is picked already, what is said now counts.

    Refused where not every pixel is stored as the detector saw it.
    """
    try:
        return console.picks.add(said.part_id, said.camera, person.name, said.defect_class)
    except NoSuchPartError as error:
        raise HTTPException(404, str(error)) from error


@router.delete("/api/picks/{part_id}/{camera}", status_code=204)
def remove_pick(console: TheConsole, person: Engineer, part_id: PartId, camera: Camera) -> None:
    """Take a pick back."""
    console.picks.remove(part_id, camera, person.name)


@router.get("/review", include_in_schema=False, response_class=HTMLResponse)
def page(request: Request, console: TheConsole, asked: Annotated[_QueuePage, Query()]) -> Response:
    """Show the queue; its parts come by script."""
    since, until = _times(console, asked.within)
    return render(
        request,
        "review.html",
        here="review",
        asked=asked,
        since=since,
        until=until,
        sample=_sample(console),
        products=console.products,
        cameras=[camera.name for camera in console.station.cameras],
        opinions=Opinion,
        within=WITHIN,
        classes=console.desk.classes(),
    )


@router.get("/review/results", include_in_schema=False, response_class=HTMLResponse)
def results_page(request: Request, console: TheConsole, asked: Annotated[_ResultsPage, Query()]) -> Response:
    """Show what reviews tell of the verdicts, and how reviewers agree."""
    since, until = _times(console, asked.within)
    told = ResultsQuery(product=asked.product, bundle=asked.bundle, since=since, until=until)
    times = Filter(since=since, until=until, product=asked.product)
    disputed = console.query.parts(times.model_copy(update={"review": ReviewState.DISPUTED}), limit=_DISPUTED)
    return render(
        request,
        "results.html",
        here="review",
        asked=asked,
        within=WITHIN,
        confusion=console.desk.confusion(told.filter(), _sample(console)),
        agreement=console.desk.agreement(times),
        disputed=[(line, console.reviews.of(line.part_id)[0]) for line in disputed.parts],
        more=disputed.after is not None,
        products=console.products,
        bundles=console.query.choices().bundles,
    )


@router.get("/review/picks", include_in_schema=False, response_class=HTMLResponse)
def picks_page(request: Request, console: TheConsole, asked: Annotated[_PicksPage, Query()]) -> Response:
    """Show what is picked to train from."""
    found = console.picks.page(asked.product, asked.camera, asked.after, _PICKS)
    return render(request, "picks.html", here="review", asked=asked, found=found, counts=console.picks.counts())


def _sample(console: Console) -> dict[Judgement, float]:
    """Return which share of the parts of each verdict reviewers are given."""
    rates = console.station.review.sample
    return {judgement: getattr(rates, judgement.value) for judgement in Judgement}


def _times(console: Console, within: Within) -> tuple[datetime | None, datetime | None]:
    """Return from when on and up to when parts are meant, now."""
    now = local(datetime.now(UTC))
    shift = shifts.present(console.station.shifts, now)
    match within:
        case Within.SHIFT:
            return shift.began, None
        case Within.LAST_SHIFT:
            last = shifts.present(console.station.shifts, shift.began - timedelta(microseconds=1))
            return last.began, shift.began
        case Within.TODAY:
            return now.replace(hour=0, minute=0, second=0, microsecond=0), None
        case Within.WEEK:
            return now - timedelta(days=7), None
        case Within.MONTH:
            return now - timedelta(days=30), None
        case Within.ALL:
            return None, None
