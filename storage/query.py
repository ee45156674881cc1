"""What is stored, asked in types: the one way in which console and commands read PostgreSQL.

Parameters that make no sense raise InputError; a server that does not answer raises StoreError. Nothing here writes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import URL, ColumnElement, Executable, Row, and_, create_engine, func, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from config.errors import InputError, StoreError
from config.messages import Judgement, Reason, Region
from storage.answers import (
    Counts,
    Filter,
    ImageRef,
    Latency,
    Page,
    Part,
    PartLine,
    Summary,
    TruthCounts,
    ViewDetail,
    ViewLine,
)
from storage.schema import WHOLE, defect, gate_report, image, milliseconds, verdict, view

LARGEST_PAGE = 500
_CONNECT = {"connect_timeout": 3, "application_name": "andon query", "options": "-c statement_timeout=15000"}
_POOL_S = 5.0


class QueryService:
    """Questions to the database at `url`; safe to use from several threads."""

    def __init__(self, url: URL | str) -> None:
        """Remember where the database is; the first question connects."""
        self._engine = create_engine(
            url,
            pool_size=4,
            max_overflow=4,
            pool_timeout=_POOL_S,
            pool_pre_ping=True,
            connect_args=_CONNECT,
            isolation_level="AUTOCOMMIT",
        )

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def parts(self, chosen: Filter, after: str | None = None, limit: int = 50) -> Page:
        """Return a page of at most `limit` (1 to LARGEST_PAGE) parts, newest first, that follow `after`."""
        if not 1 <= limit <= LARGEST_PAGE:
            raise InputError(f"limit: must be 1 to {LARGEST_PAGE}, not {limit}")
        statement = (
            _LINES.where(*_conditions(chosen))
            .order_by(verdict.c.trigger_time.desc(), verdict.c.part_id.desc())
            .limit(limit + 1)
        )
        if after is not None:
            statement = statement.where(
                tuple_(verdict.c.trigger_time, verdict.c.part_id) < tuple_(*_read_cursor(after))
            )
        found = self._rows(statement)
        lines, more = found[:limit], len(found) > limit
        after = _cursor(lines[-1].trigger_time, lines[-1].part_id) if more else None
        return Page(parts=tuple(PartLine(**fields) for fields in self._complete(lines)), after=after)

    def part(self, part_id: str) -> Part | None:
        """Return all that is stored of a part, maps decoded; None if there is no such part."""
        found = self._complete(self._rows(_LINES.where(verdict.c.part_id == _name("part_id", part_id))))
        if not found:
            return None
        regions: dict[str, list[Region]] = {}
        for row in self._rows(select(defect).where(defect.c.part_id == part_id).order_by(defect.c.region)):
            fields = {name: getattr(row, name) for name in Region.model_fields}
            regions.setdefault(row.camera, []).append(Region(**fields))
        views = self._rows(select(view).where(view.c.part_id == part_id).order_by(view.c.camera))
        details = tuple(_detail(row, regions.get(row.camera, [])) for row in views)
        return Part(**found[0], details=details)

    def image(self, part_id: str, camera: str, purpose: str, region: int | None = None) -> bytes | None:
        """Return a stored JPEG; None if there is none."""
        if purpose not in ("image", "crop"):
            raise InputError(f"purpose: must be image or crop, not {purpose!r:.40}")
        number = WHOLE if region is None else region
        if not WHOLE <= number < 2**15:
            raise InputError(f"region: must be an index into the view's regions, not {region}")
        found = self._rows(
            select(image.c.content).where(
                image.c.part_id == _name("part_id", part_id),
                image.c.camera == _name("camera", camera),
                image.c.purpose == purpose,
                image.c.region == number,
            )
        )
        return bytes(found[0].content) if found else None

    def map(self, part_id: str, camera: str) -> NDArray[np.float16] | None:
        """Return the anomaly map of a view, `(h, w)`; None if there is none."""
        found = self._rows(
            select(view.c.map, view.c.map_height, view.c.map_width).where(
                view.c.part_id == _name("part_id", part_id), view.c.camera == _name("camera", camera)
            )
        )
        return _map(found[0]) if found else None

    def counts(self, chosen: Filter) -> Counts:
        """Return how many parts there are, by verdict."""
        statement = select(verdict.c.verdict, func.count().label("parts")).where(*_conditions(chosen))
        found = {row.verdict: row.parts for row in self._rows(statement.group_by(verdict.c.verdict))}
        verdicts = {judgement: found.get(judgement.value, 0) for judgement in Judgement}
        return Counts(total=sum(verdicts.values()), verdicts=verdicts)

    def summary(self, run: str) -> Summary:
        """Return a run in numbers; of an unknown run all counts are 0."""
        row = self._rows(_SUMMARY.where(verdict.c.run == _name("run", run)))[0]
        fields = row._asdict()
        return Summary(
            run=run,
            verdicts={judgement: fields.pop(judgement.value) for judgement in Judgement},
            truth=TruthCounts(**{name: fields.pop(name) for name in TruthCounts.model_fields}),
            trigger_to_verdict=_latency(fields, "verdict"),
            trigger_to_gate=_latency(fields, "gate"),
            inference=_latency(self._rows(_INFERENCE.where(verdict.c.run == run))[0]._asdict(), "inference"),
            **fields,
        )

    def _complete(self, lines: Sequence[Row[Any]]) -> list[dict[str, Any]]:
        """Add views and images to lines."""
        part_ids = [row.part_id for row in lines]
        views: dict[str, list[ViewLine]] = {}
        images: dict[str, list[ImageRef]] = {}
        if part_ids:
            short = select(view.c.part_id, view.c.camera, view.c.verdict, view.c.score)
            for row in self._rows(short.where(view.c.part_id.in_(part_ids)).order_by(view.c.camera)):
                line = ViewLine(camera=row.camera, verdict=Judgement(row.verdict), score=row.score)
                views.setdefault(row.part_id, []).append(line)
            key = (image.c.camera, image.c.purpose, image.c.region)
            listed = select(image.c.part_id, *key, image.c.width_px, image.c.height_px)
            for row in self._rows(listed.where(image.c.part_id.in_(part_ids)).order_by(*key)):
                fields = row._asdict()
                fields["region"] = None if row.region == WHOLE else row.region
                images.setdefault(fields.pop("part_id"), []).append(ImageRef(**fields))
        return [
            {**row._asdict(), "views": tuple(views.get(row.part_id, ())), "images": tuple(images.get(row.part_id, ()))}
            for row in lines
        ]

    def _rows(self, statement: Executable) -> Sequence[Row[Any]]:
        with _translated(), self._engine.connect() as connection:
            return connection.execute(statement).all()


_TRIGGER_TO_VERDICT = milliseconds(verdict.c.trigger_ns, verdict.c.judged_ns)
_TRIGGER_TO_GATE = milliseconds(verdict.c.trigger_ns, gate_report.c.written_ns)
_REPORTED = verdict.outerjoin(
    gate_report,
    and_(gate_report.c.part_id == verdict.c.part_id, gate_report.c.trigger_time == verdict.c.trigger_time),
)
_LINES = select(
    verdict.c.part_id,
    verdict.c.run,
    verdict.c.sequence,
    verdict.c.station,
    verdict.c.line,
    verdict.c.product,
    verdict.c.recipe,
    verdict.c.recipe_version,
    verdict.c.verdict,
    verdict.c.reasons,
    verdict.c.score,
    verdict.c.trigger_time,
    _TRIGGER_TO_VERDICT.label("trigger_to_verdict_ms"),
    milliseconds(verdict.c.trigger_ns, verdict.c.deadline_ns).label("deadline_ms"),
    verdict.c.gate,
    gate_report.c.outcome.label("gate_outcome"),
    gate_report.c.confirmed.label("gate_confirmed"),
    _TRIGGER_TO_GATE.label("trigger_to_gate_ms"),
    verdict.c.truth_good,
    verdict.c.truth_defect,
    verdict.c.truth_source,
).select_from(_REPORTED)


def _count(name: str, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(and_(*conditions)).label(name)


def _spread(what: str, value: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    return (
        func.percentile_cont(0.5).within_group(value).label(f"{what}_p50_ms"),
        func.percentile_cont(0.99).within_group(value).label(f"{what}_p99_ms"),
        func.max(value).label(f"{what}_max_ms"),
    )


_GOOD, _BAD = verdict.c.truth_good.is_(True), verdict.c.truth_good.is_(False)
_SUMMARY = select(
    func.count().label("recorded"),
    (func.count() - func.count(func.distinct(tuple_(verdict.c.station, verdict.c.sequence)))).label("doubled"),
    *(_count(judgement.value, verdict.c.verdict == judgement.value) for judgement in Judgement),
    _count("good", _GOOD),
    _count("bad", _BAD),
    _count("false_reject", _GOOD, verdict.c.verdict != Judgement.PASS.value),
    _count("escape", _BAD, verdict.c.verdict == Judgement.PASS.value),
    _count("good_review", _GOOD, verdict.c.verdict == Judgement.REVIEW.value),
    _count("bad_review", _BAD, verdict.c.verdict == Judgement.REVIEW.value),
    _count("late", verdict.c.reasons.contains([Reason.LATE.value]) | (verdict.c.judged_ns > verdict.c.deadline_ns)),
    _count("overruns", verdict.c.reasons.contains([Reason.OVERRUN.value])),
    _count("gate_reports", gate_report.c.part_id.is_not(None)),
    _count("gate_commands", gate_report.c.written_ns.is_not(None)),
    _count("gate_confirmed", gate_report.c.confirmed.is_(True)),
    *_spread("verdict", _TRIGGER_TO_VERDICT),
    *_spread("gate", _TRIGGER_TO_GATE),
    func.min(verdict.c.trigger_time).label("first_trigger"),
    func.max(verdict.c.trigger_time).label("last_trigger"),
).select_from(_REPORTED)


_INFERENCE = select(*_spread("inference", milliseconds(view.c.started_ns, view.c.finished_ns))).select_from(
    verdict.join(view, and_(view.c.part_id == verdict.c.part_id, view.c.trigger_time == verdict.c.trigger_time))
)


def _conditions(chosen: Filter) -> Iterator[ColumnElement[bool]]:
    for name in ("run", "station", "product", "part_id"):
        value = getattr(chosen, name)
        if value is not None:
            yield verdict.c[name] == value
    if chosen.since is not None:
        yield verdict.c.trigger_time >= chosen.since
    if chosen.until is not None:
        yield verdict.c.trigger_time < chosen.until
    if chosen.verdicts:
        yield verdict.c.verdict.in_(sorted(judgement.value for judgement in chosen.verdicts))
    if chosen.reason is not None:
        yield verdict.c.reasons.contains([chosen.reason.value])
    if chosen.score_min is not None:
        yield verdict.c.score >= chosen.score_min
    if chosen.score_max is not None:
        yield verdict.c.score <= chosen.score_max
    if chosen.camera is not None:
        seen = select(view.c.part_id).where(view.c.part_id == verdict.c.part_id, view.c.camera == chosen.camera)
        yield seen.exists()


def _detail(row: Row[Any], regions: Sequence[Region]) -> ViewDetail:
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
        anomaly_map=_map(row),
    )


def _map(row: Row[Any]) -> NDArray[np.float16] | None:
    if row.map is None:
        return None
    return np.frombuffer(zlib.decompress(row.map), dtype="<f2").reshape(row.map_height, row.map_width)


def _between_ms(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e6


def _latency(fields: dict[str, Any], what: str) -> Latency:
    return Latency(**{name: fields.pop(f"{what}_{name}") for name in Latency.model_fields})


def _name(field: str, value: str) -> str:
    if not value or "\x00" in value or not value.isprintable():
        raise InputError(f"{field}: must be printable text, not {value!r:.40}")
    return value


def _cursor(trigger_time: datetime, part_id: str) -> str:
    text = json.dumps([trigger_time.astimezone(UTC).isoformat(), part_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        time, part_id = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        moment = datetime.fromisoformat(time)
        return moment.astimezone(UTC), _name("after", part_id)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"after: is no cursor of an earlier page: {cursor!r:.40}") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None) or error
        lines = str(original).strip().splitlines() or [type(original).__name__]
        raise StoreError(f"PostgreSQL: {lines[0]}") from error
