"""What a bundle that does not count yet has said of parts, beside what was said of them by the one that does."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, ColumnElement, Select, create_engine, func, select

from config.intervals import interval
from config.messages import Judgement
from storage.failures import translated
from storage.query.service import CONNECT
from storage.schema import shadow, view

_DIFFERING = 60  # parts that are named
_SCATTERED = 400  # pairs of scores


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Value):
    """So many of the parts, and the share with its exact 95 % interval (Clopper-Pearson)."""

    parts: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, events: int, parts: int) -> Share:
        """Return the share; anything is possible where there are no parts."""
        low, high = interval(events, parts)
        return cls(parts=events, share=events / parts if parts else 0.0, low=low, high=high)


class Differing(_Value):
    """A part of which the two bundles say different things."""

    part_id: str
    trigger_time: datetime
    then: Judgement
    now: Judgement
    score_then: float | None
    score_now: float | None


class Compared(_Value):
    """What two bundles said of the same parts; `verdicts` counts `then->now`."""

    parts: int
    first: datetime | None
    last: datetime | None
    verdicts: dict[str, int]
    agree: Share
    stricter: Share  # passed then, would not pass now
    milder: Share  # did not pass then, would pass now


class Comparison(Compared):
    """The same with single parts: those that differ, the newest first, and pairs of scores, then and now."""

    differing: tuple[Differing, ...]
    scores: tuple[tuple[float, float], ...]


class Shadows:
    """Questions to the database at `url`; every method raises StoreError where it does not answer."""

    def __init__(self, url: URL | str) -> None:
        """Remember where the database is; the first question connects."""
        self._engine = create_engine(
            url, pool_size=1, max_overflow=2, pool_pre_ping=True, connect_args=CONNECT, isolation_level="AUTOCOMMIT"
        )

    def compared(self, bundle_digest: str, camera: str, since: datetime) -> Compared:
        """Return what a bundle has said since a time of one camera's views, in numbers."""
        counted = _pairs(
            bundle_digest,
            camera,
            since,
            view.c.verdict.label("then"),
            shadow.c.verdict.label("now"),
            func.count().label("parts"),
            func.min(shadow.c.trigger_time).label("first"),
            func.max(shadow.c.trigger_time).label("last"),
        ).group_by(view.c.verdict, shadow.c.verdict)
        with translated(), self._engine.connect() as connection:
            found = connection.execute(counted).all()
        return _summed([(row.then, row.now, row.parts, row.first, row.last) for row in found])

    def comparison(self, bundle_digest: str, camera: str, since: datetime) -> Comparison:
        """Return the same with the parts that differ and pairs of scores."""
        whole = self.compared(bundle_digest, camera, since)
        columns = (
            shadow.c.part_id,
            shadow.c.trigger_time,
            view.c.verdict.label("then"),
            shadow.c.verdict.label("now"),
            view.c.score.label("score_then"),
            shadow.c.score.label("score_now"),
        )
        newest = _pairs(bundle_digest, camera, since, *columns).order_by(shadow.c.trigger_time.desc())
        with translated(), self._engine.connect() as connection:
            differing = connection.execute(newest.where(view.c.verdict != shadow.c.verdict).limit(_DIFFERING)).all()
            scored = connection.execute(
                newest.where(view.c.score.is_not(None), shadow.c.score.is_not(None)).limit(_SCATTERED)
            ).all()
        return Comparison(
            **{name: getattr(whole, name) for name in Compared.model_fields},
            differing=tuple(Differing(**row._asdict()) for row in differing),
            scores=tuple((row.score_then, row.score_now) for row in scored),
        )


def _pairs(bundle_digest: str, camera: str, since: datetime, *columns: ColumnElement[Any]) -> Select[Any]:
    same_view = (
        (view.c.part_id == shadow.c.part_id)
        & (view.c.camera == shadow.c.camera)
        & (view.c.trigger_time == shadow.c.trigger_time)
    )
    return (
        select(*columns)
        .select_from(shadow.join(view, same_view))
        .where(shadow.c.bundle_digest == bundle_digest, shadow.c.camera == camera, shadow.c.trigger_time >= since)
    )


def _summed(rows: list[tuple[str, str, int, datetime, datetime]]) -> Compared:
    parts = sum(row[2] for row in rows)
    passed = Judgement.PASS.value

    def share(*, then: bool, now: bool) -> Share:
        return Share.of(sum(row[2] for row in rows if (row[0] == passed) is then and (row[1] == passed) is now), parts)

    return Compared(
        parts=parts,
        first=min((row[3] for row in rows), default=None),
        last=max((row[4] for row in rows), default=None),
        verdicts={f"{row[0]}->{row[1]}": row[2] for row in rows},
        agree=Share.of(sum(row[2] for row in rows if row[0] == row[1]), parts),
        stricter=share(then=True, now=False),
        milder=share(then=False, now=True),
    )
