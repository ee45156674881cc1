"""Alarms that somebody has seen: one acknowledgement for each, with its entry in the audit trail."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, select
from sqlalchemy.dialects.postgresql import insert as insert_once

from config.errors import InputError
from storage import audit
from storage.ledger import Ledger
from storage.schema import acknowledgement, event

LONGEST_COMMENT = 500


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
        self._ledger = Ledger(url, folder, "alarms")

    def close(self) -> None:
        """Close the connections."""
        self._ledger.close()

    def acknowledge(self, event_id: str, person: str, comment: str = "") -> Acknowledgement:
        """Note that `person` has seen the alarm that began with an event.

        Raise InputError where there is no such alarm, or somebody has acknowledged it before.
        """
        if comment:
            audit.printable("comment", comment, LONGEST_COMMENT)
        with self._ledger.changing() as change:
            found = change.connection.execute(
                select(event.c.service, event.c.name).where(event.c.event_id == event_id, event.c.state != "ENDED")
            ).one_or_none()
            if found is None:
                raise InputError(f"event_id {event_id!r:.100}: no such alarm is stored (or not yet: try again)")
            values = {"event_id": event_id, "person": person, "comment": comment}
            placed = insert_once(acknowledgement).values(values).on_conflict_do_nothing().returning(acknowledgement)
            made = change.connection.execute(placed).mappings().one_or_none()
            if made is None:
                raise InputError(f"{found.service}: {found.name} is acknowledged already")
            after = {"service": found.service, "name": found.name} | ({"comment": comment} if comment else {})
            change.enter(person, "alarm.acknowledged", event_id, None, after)
        return Acknowledgement(**made)

    def of(self, event_ids: Collection[str]) -> dict[str, Acknowledgement]:
        """Return the acknowledgements of those of the events that have one."""
        wanted = select(acknowledgement).where(acknowledgement.c.event_id.in_(sorted(event_ids)))
        with self._ledger.reading() as connection:
            return {row["event_id"]: Acknowledgement(**row) for row in connection.execute(wanted).mappings()}
