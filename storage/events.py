"""What happened to the station, asked in types: a list of events, and the alarms that are on.

A condition is two events, whose ids differ in their ending only (`config/events.py`); it is on while its end is not
stored. Parameters that make no sense raise InputError; a server that does not answer raises StoreError.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy import URL, ColumnElement, Executable, Row, and_, create_engine, func, select, tuple_

from config.errors import InputError
from config.events import BEGAN, ENDED, Severity
from config.files import explain
from storage.failures import translated
from storage.query.filters import Moment, Name
from storage.schema import event

LARGEST_PAGE = 500
_MOST_ALARMS = 500
_CONNECT = {"connect_timeout": 3, "application_name": "andon events", "options": "-c statement_timeout=15000"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EventFilter(_Value):
    """Which events are meant: all that every field given agrees with."""

    since: Moment | None = None
    until: Moment | None = Field(None, description="itself not included")
    station: Name | None = None
    service: Name | None = None
    name: Name | None = None
    severities: frozenset[Severity] = Field(frozenset(), description="none: any")

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"since ({self.since.isoformat()}) must be before until ({self.until.isoformat()})")
        return self

    @classmethod
    def parse(cls, values: dict[str, object]) -> Self:
        """Return the filter that `values` mean; raise InputError that names each wrong field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"events: {explain(error)}") from error


class EventLine(_Value):
    """An event as it stands in a list."""

    event_id: str
    time: datetime
    station: str
    service: str
    name: str
    severity: str
    state: Literal["BEGAN", "ENDED", "HAPPENED"]
    detail: str


class EventPage(_Value):
    """Events, newest first; pass `after` to get the ones that follow (None: there are no more)."""

    events: tuple[EventLine, ...]
    after: str | None


class EventService:
    """Questions to the database at `url`; safe to use from several threads."""

    def __init__(self, url: URL | str) -> None:
        """Remember where the database is; the first question connects."""
        self._engine = create_engine(
            url, pool_size=1, max_overflow=3, pool_pre_ping=True, connect_args=_CONNECT, isolation_level="AUTOCOMMIT"
        )

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def events(self, chosen: EventFilter, after: str | None = None, limit: int = 50) -> EventPage:
        """Return at most `limit` (1 to LARGEST_PAGE) events, newest first, that follow `after`."""
        if not 1 <= limit <= LARGEST_PAGE:
            raise InputError(f"limit: must be 1 to {LARGEST_PAGE}, not {limit}")
        statement = _LINES.where(*_conditions(chosen)).order_by(event.c.time.desc(), event.c.event_id.desc())
        if after is not None:
            statement = statement.where(tuple_(event.c.time, event.c.event_id) < tuple_(*_read_cursor(after)))
        found = self._rows(statement.limit(limit + 1))
        lines = tuple(EventLine(**row._mapping) for row in found[:limit])  # noqa: SLF001 - public, despite its name
        return EventPage(events=lines, after=_cursor(lines[-1]) if len(found) > limit else None)

    def alarms(self, station: str | None = None) -> tuple[EventLine, ...]:
        """Return the conditions that are on, the newest first; of all stations where none is named."""
        end = event.alias("an_end")
        end_id = func.left(event.c.event_id, -len(BEGAN)).concat(ENDED)
        on = and_(
            event.c.state == "BEGAN",
            event.c.event_id.endswith(BEGAN, autoescape=True),
            ~select(end.c.event_id).where(end.c.event_id == end_id).exists(),
        )
        statement = _LINES.where(on, *_conditions(EventFilter.parse({"station": station})))
        found = self._rows(statement.order_by(event.c.time.desc(), event.c.event_id.desc()).limit(_MOST_ALARMS))
        return tuple(EventLine(**row._mapping) for row in found)  # noqa: SLF001 - public, despite its name

    def _rows(self, statement: Executable) -> Sequence[Row[Any]]:
        with translated(), self._engine.connect() as connection:
            return connection.execute(statement).all()


_LINES = select(*(event.c[name] for name in EventLine.model_fields))


def _conditions(chosen: EventFilter) -> Iterator[ColumnElement[bool]]:
    if chosen.since is not None:
        yield event.c.time >= chosen.since
    if chosen.until is not None:
        yield event.c.time < chosen.until
    for name in ("station", "service", "name"):
        value = getattr(chosen, name)
        if value is not None:
            yield event.c[name] == value
    if chosen.severities:
        yield event.c.severity.in_(sorted(chosen.severities))


def _cursor(line: EventLine) -> str:
    text = json.dumps([line.time.astimezone(UTC).isoformat(), line.event_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        time, event_id = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        if not isinstance(event_id, str) or not event_id.isprintable():
            raise ValueError("no event_id")  # noqa: TRY301 - one way out for all that is wrong with it
        return datetime.fromisoformat(time).astimezone(UTC), event_id
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"after: is no cursor of an earlier page: {cursor!r:.40}") from error
