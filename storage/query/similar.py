"""Defects like a given one: of the same product and camera, by class, place, size and score."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Double, Float, case, cast, func, select

from storage.schema import defect, image

LOOKED_THROUGH = 6_000  # defects of the product, the latest ones
_PLACE = 5.0  # how far two defects are apart at opposite edges; a factor of e in area or score counts 1
_OTHER_CLASS = 1.0


class DefectLine(BaseModel):
    """A defect as it stands in a list; `apart` is 0 for one that is alike in all that is compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    part_id: str
    camera: str
    region: int  # index into the view's regions
    trigger_time: datetime
    defect_class: str | None
    area_px: int
    score: float
    center_x: float | None
    center_y: float | None
    apart: float


def find(connection: Connection, part_id: str, camera: str, region: int) -> DefectLine | None:
    """Return a defect; None if there is none."""
    same = (defect.c.part_id == part_id, defect.c.camera == camera, defect.c.region == region)
    names = [name for name in DefectLine.model_fields if name != "apart"]
    row = connection.execute(select(*(defect.c[name] for name in names)).where(*same).limit(1)).mappings().first()
    return None if row is None else DefectLine(**row, apart=0.0)


def nearest(connection: Connection, one: DefectLine, limit: int) -> list[DefectLine]:
    """Return other parts' defects, the most alike first, of the latest LOOKED_THROUGH ones of the product."""
    product = select(defect.c.product).where(
        defect.c.part_id == one.part_id, defect.c.camera == one.camera, defect.c.region == one.region
    )
    latest = (
        select(defect)
        .where(defect.c.product == product.limit(1).scalar_subquery())
        .order_by(defect.c.trigger_time.desc(), defect.c.part_id.desc())
        .limit(LOOKED_THROUGH)
        .subquery()
    )
    of_area = func.abs(func.ln(cast(func.greatest(latest.c.area_px, 1), Double) / max(one.area_px, 1)))
    of_score = func.abs(func.ln(func.greatest(latest.c.score, 1e-6) / max(one.score, 1e-6)))
    of_place = func.coalesce(
        func.sqrt(
            func.power(latest.c.center_x - (one.center_x or 0.0), 2)
            + func.power(latest.c.center_y - (one.center_y or 0.0), 2)
        ),
        1.0,
    )
    of_class = case((latest.c.defect_class.is_distinct_from(one.defect_class), _OTHER_CLASS), else_=0.0)
    apart = cast(of_area + of_score + _PLACE * of_place + of_class, Float).label("apart")
    names = [name for name in DefectLine.model_fields if name != "apart"]
    wanted = (
        select(*(latest.c[name] for name in names), apart)
        .where(latest.c.camera == one.camera, latest.c.part_id != one.part_id)
        .order_by("apart", latest.c.trigger_time.desc())
        .limit(limit)
    )
    return [DefectLine(**row) for row in connection.execute(wanted).mappings()]


def crops(connection: Connection, lines: list[DefectLine]) -> dict[tuple[str, int], tuple[bytes | None, str | None]]:
    """Return the content of defects' crops, or the place in an image store that they lie in, by part and region."""
    if not lines:
        return {}
    statement = select(image.c.part_id, image.c.region, image.c.content, image.c.place).where(
        image.c.part_id.in_([line.part_id for line in lines]),
        image.c.trigger_time.in_({line.trigger_time for line in lines}),
        image.c.camera == lines[0].camera,
        image.c.purpose == "crop",
    )
    return {(row.part_id, row.region): (row.content, row.place) for row in connection.execute(statement)}
