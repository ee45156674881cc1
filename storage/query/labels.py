"""What people and detectors call a part's defects: for export and training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, select

from storage.reviews import Finding
from storage.schema import defect, hold, review

Where = tuple[str, int | None]  # a view, or a defect in it: camera and region
DISPUTED = "DISPUTED"  # reviewers disagree


@dataclass
class Labels:
    """What is said of a part. A reviewer's last word on the same thing counts."""

    held: bool = False
    of_part: dict[str, Finding] = field(default_factory=dict)  # by reviewer
    of_place: dict[Where, dict[str, Finding]] = field(default_factory=dict)
    part_class: str | None = None  # the last one that a reviewer gave
    classes: dict[Where, str] = field(default_factory=dict)  # a reviewer's before the detector's

    @property
    def finding(self) -> str | None:
        """What reviewers say of the part: a Finding where they agree, DISPUTED, or None where nobody did."""
        return _agreed(self.of_part)

    def finding_at(self, camera: str, region: int | None = None) -> str | None:
        """Return what reviewers say of one view or defect, likewise."""
        return _agreed(self.of_place.get((camera, region), {}))

    def defect_class(self, camera: str, region: int | None = None) -> str | None:
        """Return what a defect is called, or what is wrong with a view."""
        return self.classes.get((camera, region)) or self.classes.get((camera, None)) or self.part_class


def labels(connection: Connection, parts: Mapping[str, datetime]) -> dict[str, Labels]:
    """Return what is said of each of these parts, which are given with their trigger times."""
    found = {part_id: Labels() for part_id in parts}
    if not parts:
        return found

    def of_them(table: Table) -> list[ColumnElement[bool]]:
        times = table.c.trigger_time.between(min(parts.values()), max(parts.values()))
        return [times, table.c.part_id.in_(parts)]

    for row in connection.execute(select(defect).where(*of_them(defect), defect.c.defect_class.is_not(None))):
        found[row.part_id].classes[row.camera, row.region] = row.defect_class
    for part_id in connection.execute(select(hold.c.part_id).where(*of_them(hold))).scalars():
        found[part_id].held = True
    for row in connection.execute(select(review).where(*of_them(review)).order_by(review.c.number)):
        said, finding = found[row.part_id], Finding(row.finding)
        if row.camera is None:
            said.of_part[row.reviewer] = finding
            said.part_class = row.defect_class or said.part_class
        else:
            where = (row.camera, row.region)
            said.of_place.setdefault(where, {})[row.reviewer] = finding
            if row.defect_class:
                said.classes[where] = row.defect_class
    return found


def _agreed(words: Mapping[str, Finding]) -> str | None:
    said = set(words.values())
    return None if not said else said.pop().value if len(said) == 1 else DISPUTED
