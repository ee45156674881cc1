"""Alarms that somebody has seen: one acknowledgement for each, with its entry in the audit trail."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, create_engine, select
from sqlalchemy.dialects.postgresql import insert as insert_once

from config.errors import InputError
from storage import audit
from storage.failures import translated
from storage.schema import acknowledgement, event

LONGEST_COMMENT = 500
_CONNECT = {"connect_timeout": 3, "application_name": "andon alarms", "options": "-c statement_timeout=15000"}


class Acknowledgement(BaseModel):
    """Somebody has seen an alarm."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    event_id: str
    person: str
    acknowledged_at: datetime
    comment: str


class Alarms:
    """Acknowledgements in the database at `url`; `folder` is the state folder. Safe to use from several threads.

    Every method raises StoreError where the database does not answer.
    """

    def __init__(self, url: URL | str, folder: Path) -> None:
        """Remember where things are; the first call connects."""
        self._engine = create_engine(url, pool_size=1, max_overflow=2, pool_pre_ping=True, connect_args=_CONNECT)
        self._anchor = audit.Anchor(folder)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def acknowledge(self, event_id: str, person: str, comment: str = "") -> Acknowledgement:
        """Note that `person` has seen the alarm that began with an event.

        Raise InputError where there is no such alarm, or somebody has acknowledged it before.
        """
        if comment:
            audit.printable("comment", comment, LONGEST_COMMENT)
        with translated(), self._engine.connect() as connection:
            with connection.begin():
                found = connection.execute(
                    select(event.c.service, event.c.name).where(event.c.event_id == event_id, event.c.state != "ENDED")
                ).one_or_none()
                if found is None:
                    raise InputError(f"event_id {event_id!r:.100}: no such alarm is stored (or not yet: try again)")
                values = {"event_id": event_id, "person": person, "comment": comment}
                placed = insert_once(acknowledgement).values(values).on_conflict_do_nothing().returning(acknowledgement)
                made = connection.execute(placed).mappings().one_or_none()
                if made is None:
                    raise InputError(f"{found.service}: {found.name} is acknowledged already")
                after = {"service": found.service, "name": found.name} | ({"comment": comment} if comment else {})
                entered = audit.append(connection, person, "alarm.acknowledged", event_id, None, after)
            self._anchor.note(connection, entered)
        return Acknowledgement(**made)

    def of(self, event_ids: Collection[str]) -> dict[str, Acknowledgement]:
        """Return the acknowledgements of those of the events that have one."""
        wanted = select(acknowledgement).where(acknowledgement.c.event_id.in_(sorted(event_ids)))
        with translated(), self._engine.connect() as connection:
            return {row["event_id"]: Acknowledgement(**row) for row in connection.execute(wanted).mappings()}
