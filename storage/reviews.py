"""What people say of parts: findings, of which one part may have several and contrary ones, and holds.

A part that has a finding or is on hold is never removed by retention. Each change is one transaction with its entry in
the audit trail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, Connection, RowMapping, delete, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_once

from config.errors import InputError
from storage import audit, partitions
from storage.ledger import Change, Ledger
from storage.schema import defect, hold, review, verdict, view

LONGEST_COMMENT = 2000
LONGEST_REASON = 500
_CLASS = re.compile(r"\w[\w-]{0,63}")  # also the name of a folder in an export


class Finding(StrEnum):
    """What a person finds."""

    GOOD = "GOOD"
    DEFECT = "DEFECT"
    UNSURE = "UNSURE"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Review(_Answer):
    """One person's finding of a part; of one view where `camera` is given, of one defect where `region` is, too."""

    number: int
    part_id: str
    trigger_time: datetime
    reviewed_at: datetime
    reviewer: str
    finding: Finding
    camera: str | None
    region: int | None  # index into the view's regions
    defect_class: str | None
    comment: str


class Hold(_Answer):
    """A part that somebody keeps."""

    part_id: str
    trigger_time: datetime
    held_at: datetime
    holder: str
    reason: str


class NoSuchPartError(InputError):
    """What is spoken of is not stored."""


class Reviews:
    """Findings and holds in the database at `url`; `folder` is the state folder. Safe to use from several threads.

    Every method raises StoreError where the database does not answer: then a change may or may not have been made.
    """

    def __init__(self, url: URL | str, folder: Path) -> None:
        """Remember where things are; the first call connects."""
        self._ledger = Ledger(url, folder, "reviews")

    def close(self) -> None:
        """Close the connections."""
        self._ledger.close()

    def add(
        self,
        part_id: str,
        finding: Finding | str,
        reviewer: str,
        *,
        camera: str | None = None,
        region: int | None = None,
        defect_class: str | None = None,
        comment: str = "",
    ) -> Review:
        """Add a finding; raise InputError where it makes no sense, or there is no such part, view or defect."""
        said = {
            "reviewer": audit.printable("reviewer", reviewer, audit.LONGEST_NAME),
            "finding": _finding(finding),
            "camera": camera,
            "region": region,
            "defect_class": _defect_class(finding, defect_class),
            "comment": _comment(comment),
        }
        with self._changing() as change:
            time = stored_at(change.connection, part_id, camera, region)
            values = {"part_id": part_id, "trigger_time": time, **said}
            added = Review(
                **change.connection.execute(insert(review).values(values).returning(review)).mappings().one()
            )
            after = {"number": added.number, **{name: value for name, value in said.items() if value is not None}}
            del after["reviewer"]
            change.enter(reviewer, "review.added", part_id, None, after)
        return added

    def hold(self, part_id: str, reason: str, holder: str) -> Hold:
        """Put a part on hold; raise InputError where there is no such part or it is on hold already."""
        said = {
            "reason": audit.printable("reason", reason, LONGEST_REASON),
            "holder": audit.printable("holder", holder, audit.LONGEST_NAME),
        }
        with self._changing() as change:
            values = {"part_id": part_id, "trigger_time": stored_at(change.connection, part_id), **said}
            placed = insert_once(hold).values(values).on_conflict_do_nothing().returning(hold)
            made = change.connection.execute(placed).mappings().one_or_none()
            if made is None:
                present = _hold(change.connection, part_id)
                told = f" by {present.holder} ({present.reason})" if present else ""
                raise InputError(f"{part_id}: is on hold already{told}")
            change.enter(holder, "hold.placed", part_id, None, {"reason": reason})
        return Hold(**made)

    def release(self, part_id: str, by: str, reason: str = "") -> Hold:
        """Release a part and return the hold that was; raise InputError where there was none."""
        audit.printable("by", by, audit.LONGEST_NAME)
        after = {"reason": audit.printable("reason", reason, LONGEST_REASON)} if reason else None
        with self._changing() as change:
            gone = delete(hold).where(hold.c.part_id == _id(part_id)).returning(hold)
            found = change.connection.execute(gone).mappings().one_or_none()
            if found is None:
                raise InputError(f"{part_id}: is not on hold")
            was = Hold(**found)
            before = {"reason": was.reason, "holder": was.holder, "held_at": was.held_at.isoformat()}
            change.enter(by, "hold.released", part_id, before, after)
        return was

    def of(self, part_id: str) -> tuple[list[Review], Hold | None]:
        """Return what people said of a part, oldest first, and its hold."""
        with self._ledger.reading() as connection:
            found = connection.execute(
                select(review).where(review.c.part_id == _id(part_id)).order_by(review.c.number)
            ).mappings()
            return [Review(**row) for row in found], _hold(connection, part_id)

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        """Give a transaction in which no partition goes."""
        with self._ledger.changing() as change:
            partitions.hold(change.connection)
            yield change


def stored_at(connection: Connection, part_id: str, camera: str | None = None, region: int | None = None) -> datetime:
    """Return when a part was triggered; raise InputError unless it is stored, with that view and that defect."""
    found: datetime | None = connection.execute(
        select(verdict.c.trigger_time)
        .where(verdict.c.part_id == _id(part_id))
        .order_by(verdict.c.trigger_time)
        .limit(1)
    ).scalar_one_or_none()
    if found is None:
        raise NoSuchPartError(f"part_id {part_id!r:.100}: no such part is stored")
    if region is not None and camera is None:
        raise InputError("region: counts the defects of one view: name its camera, too")
    if camera is not None:
        views = connection.execute(
            select(view.c.camera).where(view.c.part_id == part_id, view.c.trigger_time == found).order_by(view.c.camera)
        )
        names = [row.camera for row in views]
        if camera not in names:
            raise InputError(f"camera {camera!r:.100}: the part has no such view, but {', '.join(names) or 'none'}")
    if region is not None:
        regions = connection.execute(
            select(defect.c.region).where(
                defect.c.part_id == part_id, defect.c.trigger_time == found, defect.c.camera == camera
            )
        )
        count = len(regions.all())
        if not 0 <= region < count:
            raise InputError(f"region {region}: the view has {count} defects, counted from 0")
    return found


def _hold(connection: Connection, part_id: str) -> Hold | None:
    found: RowMapping | None = (
        connection.execute(select(hold).where(hold.c.part_id == part_id)).mappings().one_or_none()
    )
    return None if found is None else Hold(**found)


def _id(part_id: str) -> str:
    return audit.printable("part_id", part_id, audit.LONGEST_NAME)


def _finding(said: str) -> Finding:
    try:
        return Finding(said)
    except ValueError:
        raise InputError(f"finding {said!r:.100}: must be {', '.join(Finding)}") from None


def _defect_class(finding: str, said: str | None) -> str | None:
    if said is None:
        return None
    if finding != Finding.DEFECT:
        raise InputError(f"defect_class: goes with the finding {Finding.DEFECT} only")
    return named_class(said)


def named_class(said: str) -> str:
    """Return the name of a class of defects; raise InputError where it is none."""
    if not _CLASS.fullmatch(said) or said.lower() == "good":
        raise InputError(
            f"defect_class {said!r:.100}: must be a name of up to 64 letters, digits, '-' and '_', and not 'good'"
        )
    return said


def _comment(said: str) -> str:
    if len(said) > LONGEST_COMMENT or not all(letter.isprintable() or letter == "\n" for letter in said):
        raise InputError(f"comment: must be at most {LONGEST_COMMENT} printable characters and line breaks")
    return said.strip()
