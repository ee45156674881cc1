"""Defects like a given one: found by what is stored of them, then put in order by the look of their crops as well."""

from __future__ import annotations

from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from storage.console.api import Camera, PartId
from storage.console.context import Console, TheConsole
from storage.console.models import Problem
from storage.console.rendering import render
from storage.query.similar import LOOKED_THROUGH, DefectLine

_COMPARED = 60  # whose crops are looked at
_SHOWN = 24
_SIDE_PX = 32
_CELLS = 4  # of gradients, along a side
_BINS = 8
_LOOK = 3.0  # how far apart two crops are that have nothing in common, where a factor of e in area is 1

RegionIndex = Annotated[int, Path(ge=0, lt=2**15, description="index into the view's regions")]
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "there is no such defect"}}

router = APIRouter()


class Similar(BaseModel):
    """A defect that is like the given one; `likeness` is of the two crops' look, None where one was not kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    defect: DefectLine
    likeness: float | None
    apart: float


@router.get("/api/parts/{part_id}/views/{camera}/regions/{region}/similar", tags=["parts"], responses=_UNKNOWN)
def similar(console: TheConsole, part_id: PartId, camera: Camera, region: RegionIndex) -> tuple[Similar, ...]:
    """Return defects of the same product and camera, the most alike first.

    Of the latest 6000 the 60 nearest by class, place, size and score are compared by their crops, too: the cosine of
    gradients and of coarse colours.
    """
    return _similar(console, _find(console, part_id, camera, region))


@router.get("/parts/{part_id}/similar/{camera}/{region}", include_in_schema=False, response_class=HTMLResponse)
def page(request: Request, console: TheConsole, part_id: PartId, camera: Camera, region: RegionIndex) -> Response:
    """Show defects that are like a given one."""
    one = _find(console, part_id, camera, region)
    found = _similar(console, one)
    return render(request, "similar.html", here="defects", one=one, found=found, looked_through=LOOKED_THROUGH)


def describe(crop: bytes) -> NDArray[np.float32] | None:
    """Return what a crop looks like as a vector of length 1; None if it is no image.

    Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), of 4 x 4 cells with 8 bins each, and 4 x 4 coarse
    colours without their mean; both count alike.
    """
    pixels = cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_COLOR) if crop else None
    if pixels is None:
        return None
    small = cv2.resize(pixels, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    gray = small.mean(axis=2)
    across, down = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    strength, angle = np.hypot(across, down), np.arctan2(down, across) % np.pi
    bins = np.minimum((angle / np.pi * _BINS).astype(np.intp), _BINS - 1)
    rows, columns = np.indices(gray.shape) * _CELLS // _SIDE_PX
    gradients = np.bincount(
        ((rows * _CELLS + columns) * _BINS + bins).ravel(), strength.ravel(), minlength=_CELLS * _CELLS * _BINS
    )
    coarse = cv2.resize(small, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    colours = (coarse - coarse.mean(axis=(0, 1))).ravel()
    vector = np.concatenate([_unit(gradients), _unit(colours)]).astype(np.float32)
    return np.asarray(_unit(vector), np.float32)


def _unit(vector: NDArray[Any]) -> NDArray[Any]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def _find(console: Console, part_id: str, camera: str, region: int) -> DefectLine:
    found = console.query.defect(part_id, camera, region)
    if found is None:
        raise HTTPException(404, f"part {part_id} has no defect {region} in a view of camera {camera!r}")
    return found


def _similar(console: Console, one: DefectLine) -> tuple[Similar, ...]:
    lines = console.query.similar(one, _COMPARED)
    crops = console.query.crops([one, *lines])
    looks = {key: describe(content) for key, content in crops.items()}
    own = looks.get((one.part_id, one.region))
    found = []
    for line in lines:
        look = looks.get((line.part_id, line.region))
        likeness = None if own is None or look is None else round(float(own @ look), 4)
        unlike = 0.5 if likeness is None else 1 - likeness
        found.append(Similar(defect=line, likeness=likeness, apart=round(line.apart + _LOOK * unlike, 4)))
    return tuple(sorted(found, key=lambda one: one.apart)[:_SHOWN])
