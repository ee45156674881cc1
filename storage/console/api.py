"""The API: the same answers as the pages', for programs."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Header, HTTPException, Path, Query
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from config.errors import StoreError
from storage.console import thumbnail
from storage.console.context import Console, TheConsole
from storage.console.events import EventStream
from storage.console.models import HealthReport, MapAnswer, Problem, ServiceHealth
from storage.query.answers import Bucket, Choices, Counts, Page, Part, Rates
from storage.query.filters import Filter, Moment
from storage.query.service import LARGEST_PAGE

_NAMED = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
PartId = Annotated[str, Path(pattern=_NAMED, max_length=120, description="a part's id")]
Camera = Annotated[str, Path(pattern=_NAMED, max_length=32, description="a camera's name in the station file")]
_KEEP = f"private, max-age={int(timedelta(days=1).total_seconds())}, immutable"
_LEVELS = 255
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "there is no such thing"}}
_LOST: dict[int | str, dict[str, Any]] = {410: {"model": Problem, "description": "its bytes are lost"}}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "a JPEG, or a PNG that keeps every pixel"}
}
_PNG = b"\x89PNG\r\n\x1a\n"  # how every one begins

router = APIRouter()


class PartsQuery(Filter):
    """Which parts, and which page of them."""

    after: str | None = Field(default=None, max_length=400, description="`after` of the page before")
    limit: int = Field(default=50, ge=1, le=LARGEST_PAGE)


class RatesQuery(Filter):
    """Which parts, and by how long a time they are counted."""

    bucket: Bucket = Field(default=Bucket.HOUR, description="a minute only of up to six hours")


class MapsQuery(BaseModel):
    """Which parts' maps, and how small."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    part: tuple[Annotated[str, Field(pattern=_NAMED, max_length=120)], ...] = Field(min_length=1, max_length=48)
    since: Moment = Field(description="the earliest trigger time of the parts")
    until: Moment = Field(description="the latest one")
    side_cells: int = Field(default=32, ge=8, le=64, description="of the longer side at most")


@router.get("/api/parts", tags=["parts"])
def parts(console: TheConsole, query: Annotated[PartsQuery, Query()]) -> Page:
    """Return the parts that the filter finds, newest first, page by page until `after` is null.

    A page with `searched_to` is not full because its search came to that time and no further.
    """
    return console.query.parts(query, query.after, query.limit)


@router.get("/api/counts", tags=["parts"])
def counts(console: TheConsole, query: Annotated[Filter, Query()]) -> Counts:
    """Return how many parts the filter finds, by verdict; with `at_least` there may be more."""
    return console.query.counts(query)


@router.get("/api/rates", tags=["parts"])
def rates(console: TheConsole, query: Annotated[RatesQuery, Query()]) -> Rates:
    """Return how many parts the filter finds in each bucket of time, by verdict, and their mean score."""
    return console.query.rates(query, query.bucket)


@router.get("/api/choices", tags=["parts"])
def choices(console: TheConsole) -> Choices:
    """Return the lines, stations, cameras, products, recipes, bundles and runs that there are parts of."""
    return console.query.choices()


@router.get("/api/parts/{part_id}", tags=["parts"], responses=_UNKNOWN)
def part(console: TheConsole, part_id: PartId) -> Part:
    """Return everything that is stored of a part, except its maps and images."""
    return find(console, part_id)


@router.get("/api/parts/{part_id}/views/{camera}/map", tags=["parts"], responses=_UNKNOWN)
def anomaly_map(console: TheConsole, part_id: PartId, camera: Camera, response: Response) -> MapAnswer:
    """Return the reduced anomaly map of a view in 256 levels."""
    view = next((view for view in find(console, part_id).details if view.camera == camera), None)
    if view is None or view.anomaly_map is None:
        raise HTTPException(404, f"part {part_id} has no map of a camera {camera!r}")
    response.headers["Cache-Control"] = _KEEP
    return _map_answer(part_id, camera, view.anomaly_map, view.review_above, view.reject_above)


@router.get("/api/maps", tags=["parts"])
def anomaly_maps(console: TheConsole, query: Annotated[MapsQuery, Query()]) -> tuple[MapAnswer, ...]:
    """Return the maps of some parts, small: of so many cells as `side_cells` the highest score counts."""
    found = console.query.maps(query.part, query.since, query.until)
    return tuple(
        _map_answer(
            one.part_id, one.camera, _reduced(one.anomaly_map, query.side_cells), one.review_above, one.reject_above
        )
        for one in found
    )


@router.get(
    "/api/images/{part_id}/{camera}/{purpose}",
    tags=["parts"],
    response_class=Response,
    responses={**_UNKNOWN, **_LOST, **_PICTURE},
)
def image(
    console: TheConsole,
    part_id: PartId,
    camera: Camera,
    purpose: Literal["image", "crop", "live"],
    region: Annotated[
        int | None, Query(ge=0, lt=2**15, description="index into the view's regions, for a crop")
    ] = None,
    side_px: Annotated[int | None, Query(ge=16, le=1024, description="longer side of a smaller copy, a JPEG")] = None,
) -> Response:
    """Return an image of a part: the whole view, a defect's crop, or the fleeting picture of the live page."""

    def whole() -> bytes:
        found = _image(console, part_id, camera, purpose, region)
        if found is None:
            which = "" if region is None else f" of region {region}"
            raise HTTPException(404, f"part {part_id} has no {purpose}{which} of a camera {camera!r}")
        return found

    if side_px is None:
        content = whole()
    else:
        key = (part_id, camera, purpose, region, side_px)
        content = console.copies.of(key, lambda: thumbnail.shrink(whole(), side_px))
    media_type = "image/png" if content.startswith(_PNG) else "image/jpeg"
    return Response(content, media_type=media_type, headers={"Cache-Control": _KEEP})


@router.get("/api/health", tags=["station"])
def health(console: TheConsole) -> HealthReport:
    """Return whether the station runs, process by process."""
    feed = console.feed
    known = {name: feed.health.get(name) for name in feed.services}
    services = [
        ServiceHealth(
            service=name,
            state=word.state if word else "SILENT",
            detail=word.detail if word else "",
            counters=word.counters if word else {},
        )
        for name, word in known.items()
    ]
    postgresql = None
    try:
        console.query.parts(Filter(), limit=1)
    except StoreError as error:
        postgresql = str(error)
    return HealthReport(
        light=feed.light(),
        services=tuple(services),
        redis=feed.away,
        postgresql=postgresql,
        browsers=feed.browsers,
        browsers_dropped=console.counters["browser_too_slow"],
    )


@router.get(
    "/events",
    tags=["station"],
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "events, for as long as you listen"}},
)
async def events(console: TheConsole, last_event_id: Annotated[str | None, Header(max_length=40)] = None) -> Response:
    """Follow the station: `snapshot` (or what you missed since Last-Event-ID), then `part`, `change` and `status`."""
    return EventStream(console.feed, last_event_id)


def find(console: Console, part_id: str) -> Part:
    """Return a stored part; answer 404 if there is none."""
    found = console.query.part(part_id)
    if found is None:
        raise HTTPException(404, f"there is no part {part_id}")
    return found


def _image(console: Console, part_id: str, camera: str, purpose: str, region: int | None) -> bytes | None:
    """Return an image from Redis, where the latest are, or from where the kept ones are."""
    if purpose == "live":
        return console.live.image(part_id, camera, purpose, region)
    if console.feed.away is None:
        try:
            found = console.live.image(part_id, camera, purpose, region)
        except StoreError:
            found = None  # the feed notices, says and counts it; PostgreSQL has them all
        if found is not None:
            return found
    return console.query.image(part_id, camera, purpose, region)


def _map_answer(
    part_id: str, camera: str, anomaly_map: NDArray[np.float16], review_above: float | None, reject_above: float | None
) -> MapAnswer:
    low, high, levels = _quantised(anomaly_map)
    return MapAnswer(
        part_id=part_id,
        camera=camera,
        height=levels.shape[0],
        width=levels.shape[1],
        low=low,
        high=high,
        review_above=review_above,
        reject_above=reject_above,
        levels=base64.b64encode(levels.tobytes()).decode("ascii"),
    )


def _reduced(anomaly_map: NDArray[np.float16], side_cells: int) -> NDArray[np.float16]:
    """Return a map `(h, w)` of at most `side_cells` a side: of the cells that become one the highest score counts."""
    step = -(-max(anomaly_map.shape) // side_cells)
    height, width = (-(-length // step) for length in anomaly_map.shape)
    more = (height * step - anomaly_map.shape[0], width * step - anomaly_map.shape[1])
    padded = np.pad(anomaly_map, ((0, more[0]), (0, more[1])), mode="edge")
    return np.asarray(padded.reshape(height, step, width, step).max(axis=(1, 3)), np.float16)


def _quantised(anomaly_map: NDArray[np.float16]) -> tuple[float, float, NDArray[np.uint8]]:
    """Return lowest and highest score and the map `(h, w)` in levels between them; what is not finite is clipped."""
    scores = anomaly_map.astype(np.float32)
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return 0.0, 0.0, np.zeros(scores.shape, np.uint8)
    low, high = float(finite.min()), float(finite.max())
    clipped = np.clip(np.nan_to_num(scores, nan=low, posinf=high, neginf=low), low, high)
    scale = _LEVELS / (high - low) if high > low else 0.0
    return low, high, np.rint((clipped - low) * scale).astype(np.uint8)
