"""What it is made of: shares by product, shift …, what defects are called, why parts did not pass, and where.

Tallies tell of all times at once. Of defects and of parts that did not pass the latest are looked at, so many and no
more: `complete` says whether that was all, `since` how far it went back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Integer, Table, and_, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from config.messages import Judgement
from storage.query.trends import Chosen, Clock, table_of
from storage.schema import WHOLE, defect, image, review, verdict, view

MOST_LOOKED_AT = 100_000  # defects, or parts that did not pass
MOST_LOOKED_UP = 20_000  # where another table must say of each whether it is meant
CELLS = 24  # of a map, across and down
_HOUR = timedelta(hours=1)
_PICTURED = 100  # defects among whose parts a picture is looked for
_OF_PART = ("station", "line", "recipe", "recipe_version")
Rows = Sequence[Any]


class By(StrEnum):
    """What parts are divided by."""

    PRODUCT = "product"
    SHIFT = "shift"
    CAMERA = "camera"
    BUNDLE = "bundle"
    RECIPE_VERSION = "recipe_version"
    LINE = "line"
    STATION = "station"


class Kind(StrEnum):
    """What a Pareto chart counts."""

    CLASSES = "classes"  # defects by what detectors call them
    REVIEWED = "reviewed"  # defects, views and parts by what reviewers call them
    REASONS = "reasons"  # parts that did not pass, by why; one may have several reasons


def shares(connection: Connection, chosen: Chosen, by: By, clock: Clock) -> dict[str, dict[Judgement, int]]:
    """Return how many parts were judged how, by name; of views where it is by camera or bundle."""
    of_views = chosen.of_views or by in {By.CAMERA, By.BUNDLE}
    table, count = table_of(of_views=of_views)
    columns: list[ColumnElement[Any]] = [table.c.hour] if by is By.SHIFT else [table.c[by.value]]
    if by is By.RECIPE_VERSION:
        columns = [table.c.recipe, table.c.recipe_version]
    statement = select(*columns, table.c.verdict, func.sum(count)).where(*chosen.where(table))
    found: dict[str, dict[Judgement, int]] = {}
    for *keys, judged, parts in connection.execute(statement.group_by(*columns, table.c.verdict)):
        name = clock.shift(keys[0]) if by is By.SHIFT else " v".join(map(str, keys))
        verdicts = found.setdefault(name, dict.fromkeys(Judgement, 0))
        verdicts[Judgement(judged)] += int(parts)
    return found


def classes(connection: Connection, chosen: Chosen) -> tuple[Rows, bool]:
    """Return what detectors call the latest defects, how many of each there are, and since when; and if that is all."""
    found, most = _defects(chosen, defect.c.defect_class.label("name"), defect.c.trigger_time)
    return _counted(connection, found.subquery(), most)


def reviewed(connection: Connection, chosen: Chosen) -> tuple[Rows, bool]:
    """Return what reviewers call things, by their last words on each, likewise."""
    meant = _between(review, chosen)
    if chosen.camera is not None:
        meant.append(review.c.camera == chosen.camera)
    said = select(review).where(*meant).order_by(review.c.trigger_time.desc()).limit(MOST_LOOKED_UP + 1).subquery()
    thing = (said.c.reviewer, said.c.part_id, said.c.camera, said.c.region)
    last = select(said).ext(distinct_on(*thing)).order_by(*thing, said.c.number.desc()).subquery()
    columns = (last.c.defect_class.label("name"), last.c.trigger_time)
    defects = select(*columns).where(last.c.finding == "DEFECT", *_of_part(last, chosen, "product")).subquery()
    counted = select(defects.c.name, func.count(), func.min(defects.c.trigger_time)).group_by(defects.c.name)
    looked_at = connection.execute(select(func.count()).select_from(said)).scalar_one()
    return connection.execute(counted).all(), looked_at <= MOST_LOOKED_UP


def reasons(connection: Connection, chosen: Chosen) -> tuple[Rows, bool]:
    """Return why the latest parts (or views) did not pass, likewise."""
    meant = [
        verdict.c[name] == value for name in (*_OF_PART, "product") if (value := getattr(chosen, name)) is not None
    ]
    found: FromClause = verdict
    column, most = verdict.c.reasons, MOST_LOOKED_AT
    if chosen.of_views:
        found = verdict.join(view, same_part(view, verdict))
        meant += [view.c.verdict != Judgement.PASS.value, *_of_view(chosen)]
        column, most = view.c.reasons, MOST_LOOKED_UP
    latest = (
        select(column.label("reasons"), verdict.c.trigger_time)
        .select_from(found)
        .where(verdict.c.verdict != Judgement.PASS.value, *_between(verdict, chosen), *meant)
        .order_by(verdict.c.trigger_time.desc())
        .limit(most + 1)
        .subquery()
    )
    name = func.unnest(latest.c.reasons).label("name")
    looked = select(func.count(), func.min(latest.c.trigger_time))
    count, since = connection.execute(looked).one()
    rows = connection.execute(select(name, func.count()).group_by(name)).all()
    return [(row[0], row[1], since) for row in rows], count <= most


def places(connection: Connection, chosen: Chosen, defect_class: str | None) -> tuple[Rows, bool]:
    """Return how many of the latest defects lie in each cell: camera, column, row, count, product or None, since."""

    def cell(share: ColumnElement[Any]) -> ColumnElement[int]:
        return cast(func.least(func.floor(share * CELLS), CELLS - 1), Integer)

    columns = [defect.c[name] for name in ("camera", "product", "center_x", "center_y", "trigger_time")]
    found, most = _defects(chosen, *columns)
    if defect_class is not None:
        found = found.where(defect.c.defect_class == defect_class)
    some = found.where(defect.c.center_x.is_not(None)).subquery()
    keys = (some.c.camera, cell(some.c.center_x), cell(some.c.center_y), some.c.product)
    counted = select(*keys, func.count(), func.min(some.c.trigger_time)).group_by(*keys)
    rows = connection.execute(counted).all()
    return rows, sum(row[4] for row in rows) <= most


def picture(connection: Connection, chosen: Chosen, camera: str, product: str) -> Any | None:  # noqa: ANN401 - a row
    """Return part and size of a picture of a product: that of one of the latest defects; None if there is none."""
    latest, _ = _defects(chosen, defect.c.part_id, defect.c.trigger_time)
    of_camera = (defect.c.camera == camera, defect.c.product == product)
    rows = connection.execute(latest.where(*of_camera).limit(_PICTURED)).all()
    if not rows:
        return None
    times = [row.trigger_time for row in rows]
    found = (
        select(image.c.part_id, image.c.width_px, image.c.height_px)
        .where(image.c.part_id.in_({row.part_id for row in rows}), image.c.trigger_time.between(min(times), max(times)))
        .where(image.c.camera == camera, image.c.purpose == "image", image.c.region == WHOLE)
        .limit(1)
    )
    return connection.execute(found).first()


def _defects(chosen: Chosen, *columns: ColumnElement[Any]) -> tuple[Any, int]:
    """Return the statement for columns of the latest defects that are meant, one more than may be looked at."""
    meant = _between(defect, chosen)
    for name in ("camera", "product"):
        if (value := getattr(chosen, name)) is not None:
            meant.append(defect.c[name] == value)
    looked_up = _of_part(defect, chosen)
    most = MOST_LOOKED_UP if looked_up else MOST_LOOKED_AT
    found = select(*columns).where(*meant, *looked_up).order_by(defect.c.trigger_time.desc())
    return found.limit(most + 1), most


def _counted(connection: Connection, found: Any, most: int) -> tuple[Rows, bool]:  # noqa: ANN401 - a subquery
    counted = select(found.c.name, func.count(), func.min(found.c.trigger_time)).group_by(found.c.name)
    rows = connection.execute(counted).all()
    return rows, sum(row[1] for row in rows) <= most


def _of_part(row: FromClause, chosen: Chosen, *more: str) -> list[ColumnElement[bool]]:
    """Return what the part that a row is of must be, if that must be looked up."""
    meant = [verdict.c[name] == value for name in (*_OF_PART, *more) if (value := getattr(chosen, name)) is not None]
    found: list[ColumnElement[bool]] = []
    if meant:
        found.append(select(1).where(same_part(verdict, row), *meant).offset(0).correlate(row).exists())
    if chosen.bundle is not None:
        same = (same_part(view, row), view.c.camera == row.c.camera)
        found.append(select(1).where(*same, *_of_view(chosen)).offset(0).correlate(row).exists())
    return found


def _of_view(chosen: Chosen) -> list[ColumnElement[bool]]:
    meant = [] if chosen.camera is None else [view.c.camera == chosen.camera]
    if chosen.bundle is not None:
        seals = (func.starts_with(view.c.bundle_digest, f"{seal}{chosen.bundle}") for seal in ("sha256:", ""))
        meant.append(next(seals) | next(seals))
    return meant


def same_part(table: Table, row: FromClause) -> ColumnElement[bool]:
    """Return whether a row of `table` is of the same part as `row`."""
    return and_(table.c.part_id == row.c.part_id, table.c.trigger_time == row.c.trigger_time)


def _between(table: Table, chosen: Chosen) -> list[ColumnElement[bool]]:
    """Return what the whole hours that are meant say of a row."""
    meant: list[ColumnElement[bool]] = []
    if chosen.since is not None:
        meant.append(table.c.trigger_time >= _whole_hour(chosen.since))
    if chosen.until is not None:
        ended = _whole_hour(chosen.until)
        meant.append(table.c.trigger_time < (ended if ended == chosen.until else ended + _HOUR))
    return meant


def _whole_hour(time: datetime) -> datetime:
    """Return when the hour of UTC begins that a time lies in."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
