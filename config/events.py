"""Events as their senders make them: what happened, and conditions, which begin and end.

An event's id must be its own over restarts and changes of the clock. The two events of a condition share theirs but for
the ending, so that an end finds its beginning whatever the clock said meanwhile.
"""

from __future__ import annotations

import time
import uuid
from typing import Literal

from msgspec.structs import replace

from config.messages import Event

Severity = Literal["INFO", "WARNING", "ALARM"]
BEGAN, ENDED = "-began", "-ended"  # how the ids of a condition's events end


def happened(station: str, service: str, name: str, severity: Severity, detail: str = "") -> Event:
    """Return an event of now that has no duration."""
    return Event(
        event_id=uuid.uuid4().hex,
        time_ns=time.time_ns(),
        station=station,
        service=service,
        name=name,
        severity=severity,
        state="HAPPENED",
        detail=detail,
    )


def began(station: str, service: str, name: str, severity: Severity, detail: str = "") -> Event:
    """Return the beginning of a condition, now."""
    event = happened(station, service, name, severity, detail)
    return replace(event, event_id=f"{event.event_id}{BEGAN}", state="BEGAN")


def ended(beginning: Event, detail: str = "") -> Event:
    """Return the end of a condition, now; the same whenever it is made, but for time and detail."""
    identity = end_of(beginning.event_id)
    return replace(beginning, event_id=identity, time_ns=time.time_ns(), state="ENDED", detail=detail)


def end_of(event_id: str) -> str:
    """Return the id of the end that belongs to a beginning."""
    return event_id.removesuffix(BEGAN) + ENDED
