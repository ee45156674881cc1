"""What a part is compared with: golden frames of the bundle that judged it, and the last good part before it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from config.errors import InputError
from storage.console.api import Camera, PartId, find
from storage.console.context import TheConsole
from storage.console.golden import MOST
from storage.console.models import Problem
from storage.query.filters import Filter

_LOOKED_AT = 60  # parts that passed, for one with a picture
_KEEP = "private, max-age=86400, immutable"
Digest = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="a bundle's digest")]
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "there is no such thing"}}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "it"}}

router = APIRouter(tags=["bundles"], responses=_UNKNOWN)


class Frames(BaseModel):
    """How many golden frames a bundle has."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: str
    frames: int


class GoodPart(BaseModel):
    """A good part of which a picture was kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    part_id: str
    picture: str  # its address


@router.get("/api/bundles/{digest}/golden")
def frames(console: TheConsole, digest: Digest) -> Frames:
    """Return how many golden frames a bundle has that parts were judged by; none where the library lacks it."""
    try:
        return Frames(digest=digest, frames=len(console.golden.frames(digest)))
    except InputError:
        return Frames(digest=digest, frames=0)


@router.get("/api/bundles/{digest}/golden/{number}", response_class=Response, responses=_PICTURE)
def frame(console: TheConsole, digest: Digest, number: Annotated[int, Path(ge=0, lt=MOST)]) -> Response:
    """Return a golden frame, at most 1024 px on its longer side; a mosaic is shown as it is."""
    try:
        found = console.golden.frames(digest)
    except InputError as error:
        raise HTTPException(404, str(error)) from error
    if number >= len(found):
        raise HTTPException(404, f"bundle {digest[:19]} has {len(found)} golden frames, counted from 0")
    kind = "image/png" if found[number].startswith(b"\x89PNG") else "image/jpeg"
    return Response(found[number], media_type=kind, headers={"Cache-Control": _KEEP})


@router.get("/api/parts/{part_id}/views/{camera}/good", tags=["parts"])
def good(console: TheConsole, part_id: PartId, camera: Camera) -> GoodPart | None:
    """Return the last part before this one that passed, of the same product, with a picture of the camera kept.

    The last 60 are looked at; null where of none of them one was kept.
    """
    part = find(console, part_id)
    wanted = Filter.parse({"product": part.product, "verdicts": ["PASS"], "until": part.trigger_time})
    for line in console.query.parts(wanted, limit=_LOOKED_AT).parts:
        if any(image.camera == camera and image.purpose == "image" for image in line.images):
            return GoodPart(part_id=line.part_id, picture=f"/api/images/{line.part_id}/{camera}/image?side_px=1024")
    return None
