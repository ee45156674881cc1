"""Alarms and events: what is on, what happened, and that somebody has seen it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from config.events import Severity
from storage.alarms import LONGEST_COMMENT, Acknowledgement
from storage.console.access import needs
from storage.console.context import TheConsole
from storage.console.models import LiveAlarm
from storage.console.rendering import render
from storage.events import LARGEST_PAGE, EventFilter, EventPage
from storage.people import Person, Role

_PAGE = 50
_SEVERITIES: tuple[Severity, ...] = ("ALARM", "WARNING", "INFO")
EventId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", max_length=120, description="an event's id")]

router = APIRouter(tags=["alarms"])


class _Asked(BaseModel):
    """Which events, and which page of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    severity: tuple[Severity, ...] = ()  # none: any
    service: str | None = Field(None, max_length=120)
    name: str | None = Field(None, max_length=120)
    after: str | None = Field(None, max_length=400, description="`after` of the page before")

    def filter(self, station: str) -> EventFilter:
        """Return the events of `station` that are meant."""
        named = {"service": self.service or None, "name": self.name or None}
        return EventFilter.parse({"station": station, "severities": frozenset(self.severity), **named})


class EventsQuery(_Asked):
    """Which events, and how many."""

    limit: int = Field(50, ge=1, le=LARGEST_PAGE)


class Seen(BaseModel):
    """What is said of an alarm that somebody has seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    comment: str = Field("", max_length=LONGEST_COMMENT)


@router.get("/api/alarms")
async def alarms(console: TheConsole) -> tuple[LiveAlarm, ...]:
    """Return the conditions that are on now, the newest first; empty also while Redis is away (see /api/health)."""
    return console.feed.alarms


@router.post("/api/alarms/{event_id}/acknowledge")
async def acknowledge(
    console: TheConsole, person: Annotated[Person, needs(Role.OPERATOR)], event_id: EventId, seen: Seen
) -> Acknowledgement:
    """Say that you have seen an alarm; it stays on until its cause is gone. Entered into the audit trail."""
    made = await asyncio.to_thread(console.alarms.acknowledge, event_id, person.name, seen.comment)
    console.feed.acknowledge(made)
    return made


@router.get("/api/events")
def events(console: TheConsole, asked: Annotated[EventsQuery, Query()]) -> EventPage:
    """Return what happened to the station, newest first, page by page until `after` is null."""
    return console.events.events(asked.filter(console.station.station), asked.after, asked.limit)


@router.get("/alarms", include_in_schema=False, response_class=HTMLResponse)
def page(request: Request, console: TheConsole, asked: Annotated[_Asked, Query()]) -> Response:
    """Show what happened to the station, newest first."""
    found = console.events.events(asked.filter(console.station.station), asked.after, _PAGE)
    told = console.alarms.of([event.event_id for event in found.events])
    return render(
        request, "alarms.html", here="live", found=found, asked=asked, acknowledged=told, severities=_SEVERITIES
    )
