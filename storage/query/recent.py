"""The last parts of a recipe with what they can be judged again by: scores, maps where they were kept, what is known.

A map is the one that the decision stage judged, at its full resolution, but stored as float16. How much is loaded is
bounded by time, by parts and by the bytes of the maps: the newest come first, and `complete` tells whether a bound cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import URL, Connection, create_engine, select
from sqlalchemy.pool import NullPool

from config.messages import Judgement, Reason
from storage.failures import translated
from storage.query.answers import PartLine
from storage.query.filters import Filter
from storage.query.lines import read_map
from storage.query.service import CONNECT, LARGEST_PAGE
from storage.schema import review, verdict, view

if TYPE_CHECKING:
    from storage.query.service import QueryService

MOST_PARTS = 2000
MOST_MAP_BYTES = 16 * 1024 * 1024  # float16


@dataclass(frozen=True)
class RecentView:
    """One view of a part; `anomaly_map` is float16 `(h, w)`, None where it was not kept."""

    camera: str
    verdict: Judgement
    score: float | None
    bundle_digest: str | None
    frame_shape: tuple[int, int, int] | None
    anomaly_map: NDArray[np.float16] | None


@dataclass(frozen=True)
class RecentPart:
    """A part as it was judged; `good` is what people say of it, or the line knows, None where nobody does."""

    part_id: str
    sequence: int
    trigger_time: datetime
    product: str
    verdict: Judgement
    reasons: tuple[Reason, ...]
    recipe_digest: str | None
    views: tuple[RecentView, ...]
    good: bool | None
    picture: str | None  # a camera whose picture of it was kept


@dataclass(frozen=True)
class Recent:
    """Parts, newest first; `complete`: all there are within the time that was asked for."""

    parts: tuple[RecentPart, ...]
    complete: bool


class RecentParts:
    """Load the last parts from the database at `url`; every method raises StoreError where it does not answer."""

    def __init__(self, url: URL | str, query: QueryService) -> None:
        """Remember where things are; each call connects."""
        self._engine = create_engine(url, poolclass=NullPool, connect_args=CONNECT, isolation_level="AUTOCOMMIT")
        self._query = query

    def load(self, recipe: str, since: datetime, most: int = MOST_PARTS) -> Recent:
        """Return the last parts that were judged by a recipe of this name, whatever its version, since `since`."""
        found: list[RecentPart] = []
        map_bytes = 0
        lines = self._lines(Filter(recipe=recipe, since=since))
        with translated(), self._engine.connect() as connection:
            while page := list(islice(lines, min(LARGEST_PAGE, most - len(found)))):
                for part in _parts(connection, page):
                    map_bytes += sum(one.anomaly_map.nbytes for one in part.views if one.anomaly_map is not None)
                    if map_bytes > MOST_MAP_BYTES:
                        return Recent(tuple(found), complete=False)
                    found.append(part)
        return Recent(tuple(found), complete=next(lines, None) is None)

    def _lines(self, chosen: Filter) -> Iterator[PartLine]:
        after: str | None = None
        while True:
            page = self._query.parts(chosen, after, LARGEST_PAGE)
            yield from page.parts
            after = page.after
            if after is None:
                return


def _parts(connection: Connection, lines: Sequence[PartLine]) -> Iterator[RecentPart]:
    ids, times = [line.part_id for line in lines], [line.trigger_time for line in lines]
    row = view.c
    columns = (*(row.part_id, row.camera, row.verdict, row.score, row.bundle_digest),)
    shapes = (row.frame_height_px, row.frame_width_px, row.frame_channels, row.map_height, row.map_width, row.map)
    meant = (row.part_id.in_(ids), row.trigger_time.between(min(times), max(times)))
    views: dict[str, list[RecentView]] = {}
    for one in connection.execute(select(*columns, *shapes).where(*meant).order_by(row.camera)):
        frame_shape = None if one.frame_height_px is None else tuple(one[5:8])
        anomaly_map = read_map(one.map, one.map_height, one.map_width)
        made = RecentView(one.camera, Judgement(one.verdict), one.score, one.bundle_digest, frame_shape, anomaly_map)
        views.setdefault(one.part_id, []).append(made)
    named = select(verdict.c.part_id, verdict.c.recipe_digest).where(
        verdict.c.part_id.in_(ids), verdict.c.trigger_time.between(min(times), max(times))
    )
    digests: dict[str, str | None] = dict(connection.execute(named).tuples().all())
    of_part = (review.c.part_id.in_(ids), review.c.camera.is_(None))
    said = select(review.c.part_id, review.c.reviewer, review.c.finding).where(*of_part).order_by(review.c.number)
    findings: dict[str, dict[str, str]] = {}
    for part_id, reviewer, finding in connection.execute(said):
        findings.setdefault(part_id, {})[reviewer] = finding  # what a person said last
    for line in lines:
        yield RecentPart(
            part_id=line.part_id,
            sequence=line.sequence,
            trigger_time=line.trigger_time,
            product=line.product,
            verdict=line.verdict,
            reasons=line.reasons,
            recipe_digest=digests.get(line.part_id),
            views=tuple(views.get(line.part_id, ())),
            good=_good(findings.get(line.part_id, {}).values(), line.truth_good),
            picture=next((image.camera for image in line.images if image.purpose == "image"), None),
        )


def _good(findings: Iterable[str], truth: bool | None) -> bool | None:  # noqa: FBT001 - what the line knows, or None
    """Return what people agree on, None where they do not; where none of them is sure, what the line knows."""
    sure = {finding for finding in findings if finding != "UNSURE"}
    if len(sure) == 1:
        return sure == {"GOOD"}
    return truth if not sure else None
