"""Where in time the parts can be that a filter means: what it names must have been seen (`seen`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, and_, or_, select

from config.messages import Judgement
from storage.query.filters import Filter
from storage.schema import seen

_TICK = timedelta(microseconds=1)  # of the database's clock
_SEEN = ("line", "station", "camera", "product", "recipe", "run")  # fields of a filter, and kinds of `seen`


@dataclass(frozen=True)
class Scope:
    """Where in time parts can be: from `low` on, up to `high`; `bundles` are the ones that the filter means."""

    low: datetime
    high: datetime
    bundles: tuple[str, ...] | None


def scope(connection: Connection, chosen: Filter) -> Scope | None:
    """Return where in time the parts that are meant can be; None if there can be none."""
    if chosen.reason is not None and chosen.verdicts == {Judgement.PASS}:
        return None  # what passes needs no reason
    named = {name: value for name in _SEEN if (value := getattr(chosen, name)) is not None}
    meant = [
        seen.c.kind == "station",
        *(and_(seen.c.kind == kind, seen.c.name == name) for kind, name in named.items()),
    ]
    if chosen.part_id is not None:
        meant.append(and_(seen.c.kind == "run", seen.c.name.in_(possible_runs(chosen.part_id))))
    if chosen.bundle is not None:
        starts = (seen.c.name.startswith(f"{seal}{chosen.bundle}", autoescape=True) for seal in ("sha256:", ""))
        meant.append(and_(seen.c.kind == "bundle", or_(*starts)))
    rows = connection.execute(select(seen).where(or_(*meant))).all()
    spans = [[row for row in rows if row.kind == "station"]]
    spans += [[row for row in rows if row.kind == kind and row.name == name] for kind, name in named.items()]
    if chosen.part_id is not None:
        spans.append([row for row in rows if row.kind == "run"])
    bundles = [row for row in rows if row.kind == "bundle"]
    if chosen.bundle is not None:
        spans.append(bundles)
    if not all(spans):
        return None
    low = max(min(row.first_time for row in span) for span in spans)
    high = min(max(row.last_time for row in span) for span in spans) + _TICK
    low = low if chosen.since is None else max(low, chosen.since)
    high = high if chosen.until is None else min(high, chosen.until)
    names = None if chosen.bundle is None else tuple(row.name for row in bundles)
    return Scope(low.astimezone(UTC), high.astimezone(UTC), names) if low < high else None


def possible_runs(part_id: str) -> list[str]:
    """Return what the run can be of a part `<station>-<run>-<sequence>`: a station's name may hold dashes, too."""
    steps = part_id.split("-")
    return ["-".join(steps[first:-1]) for first in range(1, len(steps) - 1)]
