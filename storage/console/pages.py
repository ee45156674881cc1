"""The pages: HTML for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from config.messages import Judgement
from storage.console import api, export
from storage.console.context import TheConsole
from storage.console.models import local
from storage.console.rendering import render
from storage.console.search import Search
from storage.query.answers import PartLine, ViewLine

_PAGE = 24  # rows; each has a thumbnail
_WORST_FIRST = (Judgement.FAULT, Judgement.REJECT, Judgement.REVIEW, Judgement.PASS)

AnyView = TypeVar("AnyView", bound=ViewLine)

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)


@router.get("/")
async def live(request: Request) -> Response:
    """Show the line as it runs; everything on the page comes as events."""
    return render(request, "live.html", here="live")


@router.get("/defects")
def defects(request: Request, console: TheConsole, search: Annotated[Search, Query()]) -> Response:
    """Show the stored parts that a search finds."""
    now = local(datetime.now(UTC))
    chosen = search.filter(now, console.station.shifts)
    counts = None
    if search.after:  # the first page has said how many there are
        found = console.query.parts(chosen, search.after, _PAGE)
    else:
        found, counts = console.query.first_page(chosen, _PAGE)
    return render(
        request,
        "defects.html",
        here="defects",
        search=search,
        found=found,
        pictured=pictured,
        filtered=urlencode(chosen.model_dump(mode="json", exclude_defaults=True), doseq=True),
        command=f" {options}" if (options := export.command(chosen)) else "",
        most_rows=export.MOST_ROWS,
        counts=counts,
        now=now,
        products=console.products,
        choices=console.query.choices(),
    )


@router.get("/parts/{part_id}")
def part(request: Request, console: TheConsole, part_id: api.PartId) -> Response:
    """Show everything that is stored of a part."""
    found = api.find(console, part_id)
    reviews, held = console.reviews.of(part_id)
    return render(
        request,
        "part.html",
        here="defects",
        part=found,
        views=_worst_first(found.details),
        story=console.query.story(found),
        reviews=reviews,
        held=held,
    )


@router.get("/healthz")
async def healthz() -> Response:
    """Tell a probe that the process answers; the station's health is at /api/health."""
    return PlainTextResponse("ok\n")


def problem(request: Request, status: HTTPStatus, detail: str) -> Response:
    """Show why a page cannot be shown; where a server is away the page tries again."""
    shown = render(
        request,
        "problem.html",
        here="",
        status=status,
        detail=detail,
        path=request.url.path,
        again=status is HTTPStatus.SERVICE_UNAVAILABLE,
    )
    shown.status_code = status
    return shown


def pictured(line: PartLine) -> ViewLine | None:
    """Return the worst view of a part of which a picture was kept; None if none was."""
    kept = {image.camera for image in line.images if image.purpose == "image"}
    return next((view for view in _worst_first(line.views) if view.camera in kept), None)


def _worst_first(views: Sequence[AnyView]) -> list[AnyView]:
    return sorted(views, key=lambda view: (_WORST_FIRST.index(view.verdict), -(view.score or 0.0)))
