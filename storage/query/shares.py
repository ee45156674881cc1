"""What it is made of: shares by product, shift …, what defects are called, why parts did not pass, and where.

Tallies tell of all times at once. Of defects and of parts that did not pass the latest are looked at, so many and no
more: `complete` says whether that was all, `since` how far it went back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Integer, Select, Subquery, Table, and_, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from config.messages import Judgement
from storage.query.trends import Chosen, Clock, table_of
from storage.schema import SOUGHT_DEFECT, WHOLE, defect, image, review, verdict, view

MOST_LOOKED_AT = 25_000  # defects, or parts that did not pass
MOST_LOOKED_UP = 4_000  # where another table must say of each whether it is meant
CELLS = 24  # of a map, across and down
_HOUR = timedelta(hours=1)
_PICTURED = 100  # defects among whose parts a picture is looked for
_OF_PART = ("station", "line", "recipe", "recipe_version")


class Looked(NamedTuple):
    """What was counted, by name or place, the count last; whether that is all, and since when it was looked at."""

    rows: Sequence[Any]
    complete: bool
    since: datetime | None


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
    # a row for each name, not for each of its verdicts: by shift there are thousands of hours to fetch
    judged = [func.coalesce(func.sum(count).filter(table.c.verdict == judgement.value), 0) for judgement in Judgement]
    statement = select(*columns, *judged).where(*chosen.where(table)).group_by(*columns)
    found: dict[str, dict[Judgement, int]] = {}
    for row in connection.execute(statement):
        keys, parts = row[: len(columns)], row[len(columns) :]
        name = clock.shift(keys[0]) if by is By.SHIFT else " v".join(map(str, keys))
        verdicts = found.setdefault(name, dict.fromkeys(Judgement, 0))
        for judgement, counted in zip(Judgement, parts, strict=True):
            verdicts[judgement] += int(counted)
    return found


def classes(connection: Connection, chosen: Chosen) -> Looked:
    """Return what detectors call the latest defects, and how many of each there are."""
    latest, meant, most = _defects(chosen)
    counted = select(latest.c.defect_class, func.count()).where(*meant).group_by(latest.c.defect_class)
    return _looked(connection, latest, most, counted)


def reviewed(connection: Connection, chosen: Chosen) -> Looked:
    """Return what reviewers call things, by their last words on each, likewise."""
    meant = _between(review, chosen)
    if chosen.camera is not None:
        meant.append(review.c.camera == chosen.camera)
    said = _latest(select(review).where(*meant), review, MOST_LOOKED_UP)
    thing = (said.c.reviewer, said.c.part_id, said.c.camera, said.c.region)
    last = select(said).ext(distinct_on(*thing)).order_by(*thing, said.c.number.desc()).subquery()
    named = select(last.c.defect_class, func.count()).where(
        last.c.finding == "DEFECT", *_of_part(last, chosen, "product")
    )
    return _looked(connection, said, MOST_LOOKED_UP, named.group_by(last.c.defect_class))


def reasons(connection: Connection, chosen: Chosen) -> Looked:
    """Return why the latest parts (or views) did not pass, likewise."""
    meant = [
        verdict.c[name] == value for name in (*_OF_PART, "product") if (value := getattr(chosen, name)) is not None
    ]
    columns = (verdict.c.part_id, verdict.c.trigger_time, verdict.c.reasons)
    notable = select(*columns).where(verdict.c.verdict != Judgement.PASS.value, *_between(verdict, chosen), *meant)
    most = MOST_LOOKED_UP if chosen.of_views else MOST_LOOKED_AT
    latest = _latest(notable, verdict, most)
    told = select(func.unnest(latest.c.reasons).label("name"))
    if chosen.of_views:
        judged = (view.c.verdict != Judgement.PASS.value, *_of_view(chosen))
        told = select(func.unnest(view.c.reasons).label("name")).join_from(latest, view, same_part(view, latest))
        told = told.where(*judged)
    each = told.subquery()
    return _looked(connection, latest, most, select(each.c.name, func.count()).group_by(each.c.name))


def places(connection: Connection, chosen: Chosen, defect_class: str | None) -> Looked:
    """Return how many of the latest defects lie in each cell: camera, column, row, product, count."""

    def cell(share: ColumnElement[Any]) -> ColumnElement[int]:
        return cast(func.least(func.floor(share * CELLS), CELLS - 1), Integer)

    latest, meant, most = _defects(chosen)
    if defect_class is not None:
        meant.append(latest.c.defect_class == defect_class)
    keys = (latest.c.camera, cell(latest.c.center_x), cell(latest.c.center_y), latest.c.product)
    counted = select(*keys, func.count()).where(latest.c.center_x.is_not(None), *meant).group_by(*keys)
    return _looked(connection, latest, most, counted)


def picture(connection: Connection, chosen: Chosen, camera: str, product: str) -> Any | None:  # noqa: ANN401 - a row
    """Return part and size of a picture of a product: that of one of the latest defects; None if there is none."""
    of_product = chosen.model_copy(update={"camera": camera, "product": product})
    latest, meant, _ = _defects(of_product)
    rows = connection.execute(select(latest.c.part_id, latest.c.trigger_time).where(*meant).limit(_PICTURED)).all()
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


def _defects(chosen: Chosen) -> tuple[Subquery, list[ColumnElement[bool]], int]:
    """Return the latest defects, what else is said of those that are meant, and how many may be looked at."""
    meant = _between(defect, chosen)
    for name in ("camera", "product"):
        if (value := getattr(chosen, name)) is not None:
            meant.append(defect.c[name] == value)
    columns = [defect.c[name] for name in ("part_id", "trigger_time", *SOUGHT_DEFECT)]
    most = (
        MOST_LOOKED_UP
        if chosen.bundle or any(getattr(chosen, name) is not None for name in _OF_PART)
        else MOST_LOOKED_AT
    )
    latest = _latest(select(*columns).where(*meant), defect, most)
    return latest, _of_part(latest, chosen), most


def _latest(found: Select[Any], table: Table, most: int) -> Subquery:
    """Return the latest rows, one more than may be looked at."""
    return found.order_by(table.c.trigger_time.desc()).limit(most + 1).subquery()


def _looked(connection: Connection, latest: Subquery, most: int, counted: Select[Any]) -> Looked:
    rows = connection.execute(counted).all()
    looked_at, since = connection.execute(select(func.count(), func.min(latest.c.trigger_time))).one()
    return Looked(rows, looked_at <= most, since)


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
