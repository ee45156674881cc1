"""Stored parts, put together from the tables that each knows something of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, DateTime, Row, Table, Text, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from config.messages import Judgement, Reason
from storage.query.answers import ImageRef, Part, PartLine, Region, ViewDetail, ViewLine
from storage.query.filters import Filter
from storage.query.scope import possible_runs, scope
from storage.schema import WHOLE, defect, gate_report, image, seen, verdict, view

_AROUND_RUN = timedelta(hours=1)  # an image may come a little before the first verdict of its run, or after the last
_COLUMNS = (
    *(name for name in PartLine.model_fields if name in verdict.c),
    *("trigger_ns", "judged_ns", "deadline_ns"),
)
_DAY = timedelta(days=1)  # of one, there are few partitions
_IDS, _TIMES = ARRAY(Text(collation="C")), ARRAY(DateTime(timezone=True))
_REPORT = ("outcome", "confirmed", "written_ns")


def find(connection: Connection, named: Filter) -> Sequence[Row[Any]]:
    """Return the line of a part, or nothing; its run tells in which partitions it can be."""
    bounds = scope(connection, named)
    if bounds is None:
        return []
    times = (verdict.c.trigger_time >= bounds.low, verdict.c.trigger_time < bounds.high)
    wanted = select(*(verdict.c[name] for name in _COLUMNS)).where(verdict.c.part_id == named.part_id, *times)
    return connection.execute(wanted.limit(1)).all()


def times_of_images(connection: Connection, named: Filter) -> tuple[datetime, datetime] | None:
    """Return when the images of a part can have been taken: where its verdict is still to come, around its run."""
    found = find(connection, named)
    if found:
        return found[0].trigger_time, found[0].trigger_time
    runs = (seen.c.kind == "run", seen.c.name.in_(possible_runs(named.part_id or "")))
    first, last = connection.execute(select(func.min(seen.c.first_time), func.max(seen.c.last_time)).where(*runs)).one()
    return None if first is None else (first - _AROUND_RUN, last + _AROUND_RUN)


def lines(connection: Connection, keys: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Return the lines of parts by their keys, in no order."""
    return _of(connection, keys, verdict, _COLUMNS)


def complete(connection: Connection, found: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Add to lines what other tables know: the gate, views in short, images."""
    reports = {row.part_id: row for row in _of(connection, found, gate_report, _REPORT)}
    views: dict[str, list[ViewLine]] = {}
    for row in sorted(_of(connection, found, view, ("camera", "verdict", "score")), key=lambda row: row.camera):
        seen_by = ViewLine(camera=row.camera, verdict=Judgement(row.verdict), score=row.score)
        views.setdefault(row.part_id, []).append(seen_by)
    images: dict[str, list[ImageRef]] = {}
    rows = _of(connection, found, image, ("camera", "purpose", "region", "encoding", "width_px", "height_px"))
    for row in sorted(rows, key=lambda row: (row.camera, row.purpose, row.region)):
        fields = row._asdict()
        fields["region"] = None if row.region == WHOLE else row.region
        images.setdefault(fields.pop("part_id"), []).append(ImageRef(**fields))
    completed = []
    for line in found:
        fields = line._asdict()
        trigger_ns, judged_ns, deadline_ns = (fields.pop(name) for name in ("trigger_ns", "judged_ns", "deadline_ns"))
        report = reports.get(line.part_id)
        completed.append(
            {
                **fields,
                "trigger_to_verdict_ms": _between_ms(trigger_ns, judged_ns),
                "deadline_ms": _between_ms(trigger_ns, deadline_ns),
                "gate_outcome": report.outcome if report else None,
                "gate_confirmed": report.confirmed if report else None,
                "trigger_to_gate_ms": _between_ms(trigger_ns, report.written_ns) if report else None,
                "views": tuple(views.get(line.part_id, ())),
                "images": tuple(images.get(line.part_id, ())),
            }
        )
    return completed


def whole(connection: Connection, found: Sequence[Row[Any]], *, maps: bool = False) -> list[Part]:
    """Return parts with everything that is stored of them, with or without their maps."""
    regions: dict[tuple[str, str], list[Region]] = {}
    boxes = _of(connection, found, defect, ("camera", "region", *Region.model_fields))
    for row in sorted(boxes, key=lambda row: row.region):
        fields = {name: getattr(row, name) for name in Region.model_fields}
        regions.setdefault((row.part_id, row.camera), []).append(Region(**fields))
    details: dict[str, list[ViewDetail]] = {}
    columns = [column.name for column in view.columns if maps or column.name != "map"]
    for row in sorted(_of(connection, found, view, columns), key=lambda row: row.camera):
        anomaly_map = read_map(row.map, row.map_height, row.map_width) if maps else None
        detail = _detail(row, regions.get((row.part_id, row.camera), ()), anomaly_map)
        details.setdefault(row.part_id, []).append(detail)
    return [Part(**fields, details=tuple(details.get(fields["part_id"], ()))) for fields in complete(connection, found)]


def _of(connection: Connection, found: Sequence[Row[Any]], table: Table, names: Sequence[str]) -> Sequence[Row[Any]]:
    """Return a table's rows of the parts that were found."""
    if not found:
        return []
    columns = (table.c[name] for name in dict.fromkeys(("part_id", *names)))
    # arrays: hundreds of parameters take longer to write down than to look up, and times longer than ids
    meant = table.c.part_id == any_(literal([line.part_id for line in found], _IDS))
    times = {line.trigger_time for line in found}
    first, last = min(times), max(times)
    then: ColumnElement[bool]
    if last - first < _DAY:
        then = table.c.trigger_time.between(first, last)
    else:  # only their partitions are asked
        then = table.c.trigger_time == any_(literal(sorted(times), _TIMES))
    return connection.execute(select(*columns).where(meant, then)).all()


def _detail(row: Row[Any], regions: Sequence[Region], anomaly_map: NDArray[np.float16] | None) -> ViewDetail:
    frame_shape = (row.frame_height_px, row.frame_width_px, row.frame_channels)
    return ViewDetail(
        camera=row.camera,
        verdict=Judgement(row.verdict),
        score=row.score,
        reasons=tuple(map(Reason, row.reasons)),
        review_above=row.review_above,
        reject_above=row.reject_above,
        bundle_digest=row.bundle_digest,
        frame_shape=None if row.frame_height_px is None else frame_shape,
        map_shape=None if row.map_height is None else (row.map_height, row.map_width),
        regions=tuple(regions),
        worker=row.worker,
        batch_size=row.batch_size,
        queue_ms=_between_ms(row.received_ns, row.started_ns),
        inference_ms=_between_ms(row.started_ns, row.finished_ns),
        anomaly_map=anomaly_map,
    )


def read_map(content: bytes | None, height: int, width: int) -> NDArray[np.float16] | None:
    """Return an anomaly map as the writer stored it, `(height, width)`."""
    if content is None:
        return None
    return np.frombuffer(zlib.decompress(content), dtype="<f2").reshape(height, width)


def _between_ms(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e6
