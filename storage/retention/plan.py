"""What is to be removed, and in which order: by age, or because space is short. Pure.

A part belongs to one class: CHALLENGE if it is a challenge part, else its verdict. What is removed is always a class's
share of one stretch of time that is wholly past: of a day's images, of a week's maps, or of all that a week has.

By age a class goes from a stretch once the whole of it is older than the station's setting; maps go with the images.
Where space is short, it is taken in this order, the oldest stretch first, until there is enough: images of PASS, all
other images, maps, all rows of PASS, all other rows. Never removed is what a person has reviewed, put on hold or picked
to train from, what is not wholly past for a day, and what was recorded less than that ago, however old its clock says
it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from config.station import ImagesDays, RetentionSection
from storage import schema
from storage.partitions import Partition, partition_of

CLASSES = tuple(ImagesDays.model_fields)
MINIMUM = timedelta(days=1)  # nothing is removed that is younger, whatever the settings and the disk say
LEAST_SHARE = 0.2  # of a partition must go, or writing the rest anew costs more than it gives
_LOOK_AGAIN = timedelta(days=7)  # at what is done: a hold may have been released since


class Kind(StrEnum):
    """What is removed of a part."""

    IMAGES = "images"
    MAPS = "maps"
    ROWS = "rows"  # and with them the images and maps that are left


_TABLES = {Kind.IMAGES: schema.image, Kind.MAPS: schema.view, Kind.ROWS: schema.verdict}  # whose partitions they go by


@dataclass(frozen=True)
class Removal:
    """Remove what is of some classes and from one stretch; `before[class]`: recorded before that time."""

    kind: Kind
    start: datetime
    end: datetime
    before: Mapping[str, datetime]

    @property
    def of_all(self) -> bool:
        """Whether no class is left out: then also what has no verdict goes, which nobody can say the class of."""
        return set(self.before) == set(CLASSES)

    @property
    def partition(self) -> Partition:
        """Return the partition that stands for the stretch."""
        return Partition(_TABLES[self.kind], self.start, self.end)


class Note(NamedTuple):
    """What a partition says of itself: those classes were removed from it, or were not there, on that day."""

    classes: frozenset[str]
    on: date


# where space is short: what is given up for it, in this order
_ORDER = (
    (Kind.IMAGES, ("PASS",)),
    (Kind.IMAGES, CLASSES),
    (Kind.MAPS, CLASSES),
    (Kind.ROWS, ("PASS",)),
    (Kind.ROWS, CLASSES),
)
_BY_TIME = (Kind.IMAGES, Kind.ROWS, Kind.MAPS)  # of one stretch: rows that go take their maps with them


def by_age(present: Iterable[Partition], keep: RetentionSection, now: datetime) -> list[Removal]:
    """Return what has become too old of the partitions that there are, the oldest first."""
    every = (expired(kind, *span, keep, now) for kind, spans in _stretches(present).items() for span in spans)
    return sorted(
        (removal for removal in every if removal.before),
        key=lambda removal: (removal.end, removal.start, _BY_TIME.index(removal.kind)),
    )


def expired(kind: Kind, start: datetime, end: datetime, keep: RetentionSection, now: datetime) -> Removal:
    """Return the removal of those classes, maybe of none, that are too old in a stretch."""
    cutoffs = {name: now - days for name, days in kept_for(kind, keep).items()}
    return Removal(kind, start, end, {name: cutoff for name, cutoff in cutoffs.items() if end <= cutoff})


def kept_for(kind: Kind, keep: RetentionSection) -> dict[str, timedelta]:
    """Return how long each class is kept after the end of its stretch."""
    days = keep.rows_days if kind is Kind.ROWS else keep.images_days
    return {name: max(MINIMUM, timedelta(days=getattr(days, name))) for name in CLASSES}


def by_space(present: Iterable[Partition], now: datetime, *, of_images: bool = False) -> Iterator[Removal]:
    """Yield what may be given up for space, in order; `of_images`: of the store's space, where only images lie."""
    stretches = _stretches(present)
    cutoff = now - MINIMUM
    for kind, names in _ORDER:
        if of_images and kind is not Kind.IMAGES:
            return
        for start, end in stretches[kind]:
            if end <= cutoff:
                yield Removal(kind, start, end, dict.fromkeys(names, cutoff))


def is_done(removal: Removal, note: Note | None, today: date) -> bool:
    """Tell whether a partition says that there is nothing to do, and lately enough to be believed."""
    if note is None or not set(removal.before) <= note.classes:
        return False
    return timedelta() <= today - note.on < _LOOK_AGAIN


def is_worth(share: float) -> bool:
    """Tell whether removing this share of a partition pays for writing the rest anew."""
    return share >= LEAST_SHARE


def _stretches(present: Iterable[Partition]) -> dict[Kind, list[tuple[datetime, datetime]]]:
    """Return the days and weeks that there is something of, the oldest first."""
    partitions = list(present)
    found = {
        kind: {(one.start, one.end) for one in partitions if one.table is table} for kind, table in _TABLES.items()
    }
    for one in partitions:  # a report whose verdict never came has a week, too
        week = partition_of(schema.verdict, one.start)
        found[Kind.ROWS].add((week.start, week.end))
    return {kind: sorted(stretches) for kind, stretches in found.items()}
