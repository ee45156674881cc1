"""`andon events`: what happened, newest first, or what is on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from config.errors import InputError
from config.home import Home, default_path
from deploy.choosing import moment
from deploy.database import database
from deploy.table import NOTHING, Screen, clock
from storage.events import EventFilter, EventLine, EventPage, EventService


def events(arguments: argparse.Namespace) -> int:
    """List events; 0 also where there are none."""
    chosen = _filter(arguments)
    if arguments.on and (chosen != EventFilter(station=arguments.station) or arguments.after):
        raise InputError("--on: shows every condition that is on; it goes with --station only")
    with database(Home(arguments.home or default_path()), "events") as url:
        service = EventService(url)
        try:
            if arguments.on:
                page = EventPage(events=service.alarms(arguments.station), after=None)
            else:
                page = service.events(chosen, arguments.after, arguments.limit)
        finally:
            service.close()
    if arguments.json:
        sys.stdout.write(page.model_dump_json() + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in _lines(page.events, page.after))
    return 0


def _filter(arguments: argparse.Namespace) -> EventFilter:
    now = datetime.now(UTC)
    values: dict[str, object] = {
        name: moment(getattr(arguments, name), name, now) for name in ("since", "until") if getattr(arguments, name)
    }
    values |= {name: getattr(arguments, name) for name in ("station", "service", "name")}
    values["severities"] = [severity.upper() for severity in arguments.severity]
    return EventFilter.parse(values)


def _lines(found: Sequence[EventLine], after: str | None) -> Iterator[str]:
    if not found:
        yield "none"
        return
    rows = [
        (clock(one.time), one.severity, one.service, one.name, one.state.lower(), one.detail or NOTHING)
        for one in found
    ]
    yield from Screen(sys.stdout).table(("time", "severity", "service", "name", "", "detail"), rows)
    if after:
        yield f"more: --after {after}"
