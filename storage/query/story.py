"""What was done about a part, beside what was measured: the recipe's digest, and the audit trail's entries."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from storage.schema import audit, verdict

_MOST = 100  # entries


class Told(NamedTuple):
    """An entry of the audit trail; `before` and `after` are JSON."""

    at: datetime
    who: str
    action: str
    before: str | None
    after: str | None


class Story(NamedTuple):
    """What was done about a part, oldest first."""

    recipe_digest: str | None
    entries: list[Told]


def story(connection: Connection, part_id: str, trigger_time: datetime) -> Story:
    """Return what was done about a stored part."""
    digest = connection.execute(
        select(verdict.c.recipe_digest).where(verdict.c.part_id == part_id, verdict.c.trigger_time == trigger_time)
    ).scalar_one_or_none()
    columns = (audit.c[name] for name in Told._fields)
    rows = connection.execute(select(*columns).where(audit.c.subject == part_id).order_by(audit.c.number).limit(_MOST))
    return Story(digest, [Told(*row) for row in rows])
