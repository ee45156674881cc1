"""Images to train from, picked by people: good ones, or of a class of defects.

A part with a pick is never removed by retention. Each change is one transaction with its entry in the audit trail.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, Connection, and_, delete, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from config.errors import InputError
from storage import audit, partitions
from storage.ledger import Ledger
from storage.reviews import named_class, stored_at
from storage.schema import WHOLE, image, pick, verdict, view

LARGEST_PAGE = 200
_COLUMNS = ("part_id", "camera", "trigger_time", "product", "good", "defect_class", "person", "picked_at")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pick(_Answer):
    """A view's image to train from."""

    part_id: str
    camera: str
    trigger_time: datetime
    product: str
    good: bool
    defect_class: str | None  # None of a good one
    person: str
    picked_at: datetime


class PickPage(_Answer):
    """Picks, the last one first; pass `after` to get the ones that follow (None: there are no more)."""

    picks: tuple[Pick, ...]
    after: str | None


class PickCounts(_Answer):
    """How many images of one product and camera are picked."""

    product: str
    camera: str
    good: int
    defective: int


class Picks:
    """Picks in the database at `url`; `folder` is the state folder. Safe to use from several threads.

    Every method raises StoreError where the database does not answer: then a change may or may not have been made.
    """

    def __init__(self, url: URL | str, folder: Path) -> None:
        """Remember where things are; the first call connects."""
        self._ledger = Ledger(url, folder, "picks")

    def close(self) -> None:
        """Close the connections."""
        self._ledger.close()

    def add(self, part_id: str, camera: str, person: str, defect_class: str | None = None) -> Pick:
        """Pick a view as good, or as one of a class of defects; picked before, it is from now on what is said now.

        Raise InputError where there is no such view, or not every pixel of it is kept.
        """
        said = {"good": defect_class is None, "defect_class": defect_class and named_class(defect_class)}
        with self._ledger.changing() as change:
            connection = change.connection
            partitions.hold(connection)
            time = stored_at(connection, part_id, camera)
            _check_pixels(connection, part_id, camera, time)
            before = _said(connection, part_id, camera)
            product = connection.execute(
                select(verdict.c.product).where(verdict.c.part_id == part_id, verdict.c.trigger_time == time)
            ).scalar_one()
            values = {"part_id": part_id, "camera": camera, "trigger_time": time, "product": product}
            values |= {**said, "person": audit.printable("person", person, audit.LONGEST_NAME)}
            changed = {**said, "person": person, "picked_at": func.now()}
            placed = insert(pick).values(values).on_conflict_do_update(constraint=pick.primary_key, set_=changed)
            made = connection.execute(placed.returning(*(pick.c[name] for name in _COLUMNS))).mappings().one()
            action = "pick.changed" if before else "pick.added"
            change.enter(person, action, part_id, before, {"camera": camera, **said})
        return Pick(**made)

    def remove(self, part_id: str, camera: str, person: str) -> None:
        """Take a pick back; raise InputError where there is none."""
        with self._ledger.changing() as change:
            before = _said(change.connection, part_id, camera)
            if before is None:
                raise InputError(f"{part_id}, camera {camera!r:.100}: is not picked")
            change.connection.execute(delete(pick).where(pick.c.part_id == part_id, pick.c.camera == camera))
            change.enter(person, "pick.removed", part_id, before, None)

    def page(
        self, product: str | None = None, camera: str | None = None, after: str | None = None, limit: int = 50
    ) -> PickPage:
        """Return at most `limit` (1 to LARGEST_PAGE) picks that follow `after`, of one product and camera or of any."""
        if not 1 <= limit <= LARGEST_PAGE:
            raise InputError(f"limit: must be 1 to {LARGEST_PAGE}, not {limit}")
        key = (pick.c.picked_at, pick.c.part_id, pick.c.camera)
        wanted = select(*(pick.c[name] for name in _COLUMNS)).order_by(*(column.desc() for column in key))
        if product is not None:
            wanted = wanted.where(pick.c.product == product)
        if camera is not None:
            wanted = wanted.where(pick.c.camera == camera)
        if after is not None:
            wanted = wanted.where(tuple_(*key) < tuple_(*map(literal, _read(after))))
        with self._ledger.reading() as connection:
            found = [Pick(**row) for row in connection.execute(wanted.limit(limit + 1)).mappings()]
        return PickPage(picks=tuple(found[:limit]), after=_cursor(found[limit - 1]) if len(found) > limit else None)

    def counts(self) -> tuple[PickCounts, ...]:
        """Return how many there are of each product and camera."""
        key = (pick.c.product, pick.c.camera)
        good = func.count().filter(pick.c.good)
        wanted = select(*key, good.label("good"), (func.count() - good).label("defective")).group_by(*key)
        with self._ledger.reading() as connection:
            return tuple(PickCounts(**row) for row in connection.execute(wanted.order_by(*key)).mappings())

    def of(self, part_ids: list[str]) -> dict[str, tuple[Pick, ...]]:
        """Return the picks of those of the parts that have any."""
        wanted = select(*(pick.c[name] for name in _COLUMNS)).where(pick.c.part_id.in_(part_ids))
        found: dict[str, tuple[Pick, ...]] = {}
        with self._ledger.reading() as connection:
            for row in connection.execute(wanted.order_by(pick.c.camera)).mappings():
                found[row["part_id"]] = (*found.get(row["part_id"], ()), Pick(**row))
        return found


def _check_pixels(connection: Connection, part_id: str, camera: str, time: datetime) -> None:
    """Raise InputError unless the view's pixels are stored as the detector saw them."""
    same = and_(image.c.part_id == view.c.part_id, image.c.trigger_time == view.c.trigger_time)
    whole = and_(image.c.camera == view.c.camera, image.c.purpose == "image", image.c.region == WHOLE)
    columns = (image.c.encoding, image.c.width_px, image.c.height_px, view.c.frame_width_px, view.c.frame_height_px)
    wanted = select(*columns).select_from(view.outerjoin(image, and_(same, whole)))
    wanted = wanted.where(view.c.part_id == part_id, view.c.trigger_time == time, view.c.camera == camera)
    found = connection.execute(wanted).one()
    if found.encoding is None:
        kept = "no picture of it is kept"
    elif (found.width_px, found.height_px) != (found.frame_width_px, found.frame_height_px):
        kept = f"its picture is smaller ({found.width_px} x {found.height_px} px) than the camera's"
    elif found.encoding != "png":
        kept = f"its picture is a {found.encoding.upper()}, which has other pixels than the detector saw"
    else:
        return
    raise InputError(f"{part_id}, camera {camera}: {kept}: have the recipe keep exact pixels (keep) to learn from them")


def _said(connection: Connection, part_id: str, camera: str) -> dict[str, object] | None:
    """Return what a pick says now, and keep others from changing it; None where there is none."""
    wanted = select(pick.c.camera, pick.c.good, pick.c.defect_class, pick.c.person).with_for_update()
    found = (
        connection.execute(wanted.where(pick.c.part_id == part_id, pick.c.camera == camera)).mappings().one_or_none()
    )
    return None if found is None else dict(found)


def _cursor(last: Pick) -> str:
    said = json.dumps([last.picked_at.astimezone(UTC).isoformat(), last.part_id, last.camera])
    return base64.urlsafe_b64encode(said.encode()).decode()


def _read(cursor: str) -> tuple[datetime, str, str]:
    try:
        time, part_id, camera = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        return (
            datetime.fromisoformat(time).astimezone(UTC),
            audit.printable("after", part_id, audit.LONGEST_NAME),
            audit.printable("after", camera, audit.LONGEST_NAME),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"after: is no cursor of an earlier page: {cursor!r:.40}") from error
