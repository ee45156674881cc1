"""What is stored of each class, how much space that takes, and what retention would remove of it, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from config.station import RetentionSection
from storage import partitions, schema
from storage.partitions import Partition, partition_of
from storage.retention import plan, removal
from storage.retention.plan import CLASSES, Kind, Removal
from storage.retention.removal import Weight

_KINDS = {schema.image: Kind.IMAGES, schema.view: Kind.MAPS, schema.verdict: Kind.ROWS}


@dataclass
class Holding:
    """What there is of one class. What goes by age goes with the next sweep; `next_at`: then something more does."""

    name: str
    parts: int = 0
    protected: int = 0  # of these are reviewed, on hold or picked
    rows_bytes: int = 0  # without images and maps
    images: int = 0
    images_bytes: int = 0
    maps_bytes: int = 0
    going_parts: int = 0
    going_images: int = 0
    going_bytes: int = 0
    oldest: datetime | None = None  # the stretch that the oldest parts are in begins then
    next_at: datetime | None = None


def survey(connection: Connection, keep: RetentionSection, station: str, now: datetime) -> list[Holding]:
    """Weigh everything, in a transaction that is open: it reads every partition, and takes as long as that takes."""
    found = {name: Holding(name) for name in CLASSES}
    parts: defaultdict[datetime, dict[str, int]] = defaultdict(dict)  # of a week, by class
    rows_bytes: defaultdict[datetime, int] = defaultdict(int)
    for one in sorted(partitions.present(connection), key=lambda one: (one.start, one.name)):
        week = partition_of(schema.verdict, one.start).start
        kind = _KINDS.get(one.table)
        if kind is not Kind.IMAGES:
            rows_bytes[week] += _size_bytes(connection, one)
        if kind is None:
            continue
        due = plan.expired(kind, one.start, one.end, keep, now)
        weights = [weight for weight in removal.weigh(connection, due, one, station) if weight.name in found]
        goes = plan.is_worth(removal.share(due, weights))
        for weight in weights:
            holding = found[str(weight.name)]
            _add(holding, kind, one, weight, goes=goes)
            _look_ahead(holding, due, one, weight, plan.kept_for(kind, keep)[holding.name])
            if kind is Kind.ROWS:
                parts[week][holding.name] = weight.rows
            elif kind is Kind.MAPS:
                rows_bytes[week] -= weight.content_bytes
    for week, counts in parts.items():
        for name, count in counts.items():
            found[name].rows_bytes += max(0, rows_bytes[week]) * count // sum(counts.values())
    return list(found.values())


def totals(holdings: Iterable[Holding]) -> Holding:
    """Return all classes in one."""
    summed = Holding("all")
    for one in holdings:
        for name, value in vars(one).items():
            if isinstance(value, int):
                setattr(summed, name, getattr(summed, name) + value)
        for name in ("oldest", "next_at"):
            times = [time for time in (getattr(summed, name), getattr(one, name)) if time is not None]
            setattr(summed, name, min(times, default=None))
    return summed


def _add(holding: Holding, kind: Kind, one: Partition, weight: Weight, *, goes: bool) -> None:
    if kind is Kind.ROWS:
        holding.parts += weight.rows
        holding.protected += weight.protected_rows
        holding.going_parts += weight.going_rows * goes
        if weight.rows and holding.oldest is None:
            holding.oldest = one.start
    elif kind is Kind.IMAGES:
        holding.images += weight.rows
        holding.images_bytes += weight.content_bytes
        holding.going_images += weight.going_rows * goes
    else:
        holding.maps_bytes += weight.content_bytes
    if goes:
        holding.going_bytes += weight.going_bytes + weight.going_placed_bytes


def _look_ahead(holding: Holding, due: Removal, one: Partition, weight: Weight, kept: timedelta) -> None:
    """Find out when the class's next stretch becomes too old."""
    has_some = weight.content_bytes if due.kind is Kind.MAPS else weight.rows > weight.protected_rows
    if has_some and holding.name not in due.before:
        at = one.end + kept
        holding.next_at = at if holding.next_at is None else min(at, holding.next_at)


def _size_bytes(connection: Connection, one: Partition) -> int:
    size = "SELECT pg_total_relation_size(CAST(:name AS regclass))"
    return int(connection.execute(text(size), {"name": one.name}).scalar_one())
