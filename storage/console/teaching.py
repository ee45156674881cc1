"""Teach: lessons from the first image to the release, their pictures and reports, and how far each is as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path as File
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from config.errors import ConfigurationError, InputError
from config.extras import UNDER_WAY, Fetch
from config.lessons import Collecting, Fitting, Lesson, Progress, Shadowing
from storage.console import thumbnail
from storage.console.access import needs
from storage.console.context import Console, TheConsole
from storage.console.models import Problem
from storage.console.rendering import render
from storage.people import Person, Role
from storage.shadows import Comparison
from storage.teaching import Picked

_EVERY_S = 0.5
_ALIVE = b": still here\n\n"
_ALIVE_EVERY = 30  # looks
_MOST_STREAMS = 40
_LARGEST_REPORT_BYTES = 64_000_000
_KEEP = {"Cache-Control": "private, max-age=86400"}
_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,120}\.png$"
_PATHS = {"lesson": {"release": {"before_bundles"}}}  # of this machine: nobody's business

LessonId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="a lesson's id")]
ImageName = Annotated[str, Path(pattern=_NAME, description="what an image is called")]
Side = Annotated[int | None, Query(ge=16, le=1024, description="longer side of a smaller copy")]
Engineer = Annotated[Person, needs(Role.ENGINEER)]
Admin = Annotated[Person, needs(Role.ADMIN)]

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "there is nothing of that name"}}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/jpeg": {}}}}
_JSON: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}}}}

router = APIRouter(tags=["teaching"], responses=_UNKNOWN)


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewLesson(_Said):
    """What is to be taught, and from which parts."""

    recipe: str = Field(min_length=1, max_length=64)
    camera: str = Field(min_length=1, max_length=64)
    collecting: Collecting = Collecting()


class LeftOut(_Said):
    """Images that are to be left out, or taken in again."""

    images: list[Annotated[str, Field(pattern=_NAME)]] = Field(min_length=1, max_length=2000)
    out: bool


class Confirmed(_Said):
    """The bundle and the thresholds that somebody has seen and wants in force."""

    bundle_digest: str = Field(min_length=1, max_length=100)
    review_above: FiniteFloat
    reject_above: FiniteFloat


class Learning(BaseModel):
    """Whether what learning needs is installed, and the latest fetch of it."""

    able: bool
    fetch: Fetch | None


class Standing(BaseModel):
    """A lesson, how far its work in hand is, and what it holds."""

    lesson: Lesson
    progress: Progress | None
    images: int
    defects: dict[str, int]
    checked: bool  # there are suspects to look at
    fitted: bool
    detectors: bool  # it is known what there is to learn with


class Images(BaseModel):
    """The good images of a lesson, in their order."""

    images: list[str]
    left_out: list[str]


class Uploaded(BaseModel):
    """An image as it is kept."""

    name: str
    width_px: int
    height_px: int
    channels: int


@router.get("/teach", response_class=HTMLResponse, include_in_schema=False)
def lessons_page(console: TheConsole, request: Request) -> Response:
    """Show the lessons, and the way to a new one."""
    views = [(name, camera) for name, one in console.home.read_recipes().items() for camera in one.views]
    lessons = console.teaching.lessons.all()
    return render(request, "teach.html", here="teach", lessons=lessons, views=views, **_lacking(console))


@router.get("/teach/{lesson_id}", response_class=HTMLResponse, include_in_schema=False)
def lesson_page(console: TheConsole, request: Request, lesson_id: LessonId) -> Response:
    """Show one lesson; what changes on the page comes as events."""
    lesson = _find(console, lesson_id)
    return render(request, "lesson.html", here="teach", lesson=lesson, **_lacking(console))


def _lacking(console: Console) -> dict[str, bool]:
    """Tell whether what lessons need is there, before anything is begun: PyTorch, and who does the works."""
    heard = console.feed.health
    return {"able": _learning(console).able, "taught": "teacher" in heard or "storage" not in heard}


def _learning(console: Console) -> Learning:
    fetch = console.teaching.fetching.read()
    invalidate_caches()  # what was installed a moment ago is there
    whole = fetch is None or fetch.step not in UNDER_WAY
    return Learning(able=whole and find_spec("torch") is not None, fetch=fetch)


@router.get("/api/learning")
def learning(console: TheConsole) -> Learning:
    """Return whether what learning needs is installed, and how far its fetch is."""
    return _learning(console)


@router.post("/api/learning/fetch", status_code=HTTPStatus.ACCEPTED)
def fetch(console: TheConsole, person: Admin) -> Fetch:
    """Have what learning needs installed where the station runs: PyTorch and what makes bundles of what it learnt."""
    if _learning(console).able:
        raise InputError("what learning needs is installed already")
    return console.teaching.fetch(person.name)


@router.get("/api/detectors", response_class=Response, responses=_JSON)
def detectors(console: TheConsole) -> Response:
    """Return what there is to learn with: of each detector what it is for, its options, and whether it can be used."""
    content = _read(console.teaching.lessons.detectors)
    if content is None:
        raise HTTPException(404, "it is not known yet what there is to learn with: the first lesson finds out")
    return Response(content, media_type="application/json")


@router.get("/api/lessons", response_model_exclude={"__all__": {"release": {"before_bundles"}}})
def lessons(console: TheConsole) -> list[Lesson]:
    """Return the lessons, the newest first."""
    return console.teaching.lessons.all()


@router.post("/api/lessons", status_code=HTTPStatus.CREATED)
def begin(console: TheConsole, wanted: NewLesson, person: Engineer) -> Lesson:
    """Begin a lesson: from now on good images are collected from the camera."""
    return console.teaching.begin(person.name, wanted.recipe, wanted.camera, wanted.collecting)


@router.get("/api/lessons/{lesson_id}", response_model_exclude=_PATHS)
def standing(console: TheConsole, lesson_id: LessonId) -> Standing:
    """Return how far a lesson is."""
    return _standing(console, lesson_id)


@router.delete("/api/lessons/{lesson_id}", status_code=HTTPStatus.NO_CONTENT)
def remove(console: TheConsole, lesson_id: LessonId, person: Engineer) -> None:
    """Remove a lesson that nobody works on, with its images."""
    _find(console, lesson_id)
    console.teaching.remove(person.name, lesson_id)


@router.post("/api/lessons/{lesson_id}/collect", response_model_exclude=_PATHS)
def collect(console: TheConsole, lesson_id: LessonId, wanted: Collecting, person: Engineer) -> Standing:
    """Collect more images, until there are so many in all."""
    _find(console, lesson_id)
    console.teaching.collect(person.name, lesson_id, wanted)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/check", response_model_exclude=_PATHS)
def check(console: TheConsole, lesson_id: LessonId, person: Engineer) -> Standing:
    """Have the images looked at for such that are unlike the others, or all too like another."""
    _find(console, lesson_id)
    console.teaching.check(person.name, lesson_id)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/fit", response_model_exclude=_PATHS)
def fit(console: TheConsole, lesson_id: LessonId, wanted: Fitting, person: Engineer) -> Standing:
    """Have a bundle fitted, calibrated, proven and sealed."""
    _find(console, lesson_id)
    console.teaching.fit(person.name, lesson_id, wanted)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/shadow", response_model_exclude=_PATHS)
def shadow(console: TheConsole, lesson_id: LessonId, wanted: Shadowing, person: Engineer) -> Standing:
    """Have the bundle judge sampled parts beside the one that counts."""
    _find(console, lesson_id)
    console.teaching.shadow(person.name, lesson_id, wanted)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/stop", response_model_exclude=_PATHS)
def stop(console: TheConsole, lesson_id: LessonId, person: Engineer) -> Standing:
    """End the work in hand; what it has brought so far stays."""
    _find(console, lesson_id)
    console.teaching.stop(person.name, lesson_id)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/cancel", response_model_exclude=_PATHS)
def cancel(console: TheConsole, lesson_id: LessonId, person: Engineer) -> Standing:
    """Give a lesson up."""
    _find(console, lesson_id)
    console.teaching.cancel(person.name, lesson_id)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/release", response_model_exclude=_PATHS)
def release(console: TheConsole, lesson_id: LessonId, wanted: Confirmed, person: Engineer) -> Standing:
    """Have the bundle judge from now on: the recipe's next version, for which the line's processes start anew."""
    _find(console, lesson_id)
    console.teaching.release(person.name, lesson_id, wanted.bundle_digest, wanted.review_above, wanted.reject_above)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/bring-back", response_model_exclude=_PATHS)
def bring_back(console: TheConsole, lesson_id: LessonId, person: Engineer) -> Standing:
    """Have what was in force before the release judge again."""
    _find(console, lesson_id)
    console.teaching.bring_back(person.name, lesson_id)
    return _standing(console, lesson_id)


@router.get("/api/lessons/{lesson_id}/images")
def images(console: TheConsole, lesson_id: LessonId) -> Images:
    """Return the names of a lesson's good images, and which of them are left out."""
    lesson = _find(console, lesson_id)
    return Images(images=console.teaching.lessons.images(lesson_id), left_out=list(lesson.left_out))


@router.put("/api/lessons/{lesson_id}/left-out", response_model_exclude=_PATHS)
def leave_out(console: TheConsole, lesson_id: LessonId, wanted: LeftOut, person: Engineer) -> Standing:
    """Leave images out of what is learnt, or take them in again."""
    _find(console, lesson_id)
    console.teaching.leave_out(person.name, lesson_id, wanted.images, out=wanted.out)
    return _standing(console, lesson_id)


@router.post("/api/lessons/{lesson_id}/images", status_code=HTTPStatus.CREATED)
def upload(
    console: TheConsole,
    lesson_id: LessonId,
    content: Annotated[bytes, Body(media_type="application/octet-stream")],
    person: Engineer,
    called: Annotated[str, Query(min_length=1, max_length=200, description="what the file is called")] = "image",
    defect_class: Annotated[
        str | None, Query(pattern=r"^\w[\w-]{0,63}$", description="what is wrong with it; none: it is good")
    ] = None,
) -> Uploaded:
    """Add a PNG, JPEG or TIFF of 8 bits, as large as the camera's images: a raw body, 64 MB at most."""
    _find(console, lesson_id)
    taken = console.teaching.upload(person.name, lesson_id, called, content, defect_class)
    return Uploaded(name=taken.name, width_px=taken.width_px, height_px=taken.height_px, channels=taken.channels)


@router.post("/api/lessons/{lesson_id}/picks")
def take_picks(console: TheConsole, lesson_id: LessonId, person: Engineer) -> dict[str, int]:
    """Add what people have sent to the training set of this product and camera, good parts and defects."""
    _find(console, lesson_id)
    picked: Picked = console.teaching.take_picks(person.name, lesson_id, console.query)
    return picked._asdict()


@router.get("/api/lessons/{lesson_id}/images/{name}", response_class=Response, responses=_PNG)
def image(console: TheConsole, lesson_id: LessonId, name: ImageName, side_px: Side = None) -> Response:
    """Return a good image: every pixel, or a smaller copy."""
    _find(console, lesson_id)
    try:
        path = console.teaching.lessons.image(lesson_id, name)
    except InputError as error:
        raise HTTPException(404, str(error)) from error
    return _picture(path, side_px)


@router.get("/api/lessons/{lesson_id}/suspects/{work}", response_class=Response, responses=_JSON)
def suspects(console: TheConsole, lesson_id: LessonId, work: Literal["check", "fit"]) -> Response:
    """Return what was found among the images: unlike the others, the least usual, alike."""
    return _found(console, lesson_id, f"{work}/suspects.json")


@router.get("/api/lessons/{lesson_id}/pictures/{work}/{name}", response_class=Response, responses=_PNG)
def picture(
    console: TheConsole, lesson_id: LessonId, work: Literal["check", "fit"], name: ImageName, side_px: Side = None
) -> Response:
    """Return a suspect's picture, with its anomaly map beside it."""
    _find(console, lesson_id)
    path = console.teaching.lessons.path(lesson_id) / "out" / work / "pictures" / name
    if not path.is_file():
        raise HTTPException(404, f"lesson {lesson_id} has no picture {name}")
    return _picture(path, side_px)


@router.get("/api/lessons/{lesson_id}/fitted", response_class=Response, responses=_JSON)
def fitted(console: TheConsole, lesson_id: LessonId) -> Response:
    """Return what the last fit has found: bundle, thresholds and what they promise, cost, escapes of picked defects."""
    return _found(console, lesson_id, "found.json")


@router.get(
    "/api/lessons/{lesson_id}/reports/{which}",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "a file to be kept; it stands alone"}},
)
def report(console: TheConsole, lesson_id: LessonId, which: Literal["check", "fit", "evaluation"]) -> Response:
    """Return a report as a file: its styles and pictures are inside, which no page of the console may have."""
    lesson = _find(console, lesson_id)
    name = "fit/evaluation/report.html" if which == "evaluation" else f"{which}/suspects.html"
    content = _read(console.teaching.lessons.path(lesson_id) / "out" / name)
    if content is None:
        raise HTTPException(404, f"lesson {lesson_id} has no report of that kind")
    headers = {"Content-Disposition": f'attachment; filename="{lesson.id}-{which}.html"'}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/api/lessons/{lesson_id}/shadow")
def compared(console: TheConsole, lesson_id: LessonId) -> Comparison:
    """Return what the lesson's bundle said of parts, beside what the one that counts said of them."""
    lesson = _find(console, lesson_id)
    if lesson.bundle_digest is None or lesson.shadow_since is None:
        raise HTTPException(404, f"lesson {lesson_id}: no shadow has run yet")
    return console.shadows.comparison(lesson.bundle_digest, lesson.camera, lesson.shadow_since)


@router.get(
    "/api/lessons/{lesson_id}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "events, for as long as you listen"}},
)
async def events(console: TheConsole, lesson_id: LessonId) -> Response:
    """Follow a lesson: an event `standing` whenever anything of it changes."""
    await asyncio.to_thread(_find, console, lesson_id)
    if console.counters["lessons_followed"] >= _MOST_STREAMS:
        raise HTTPException(503, "too many pages follow lessons already: close one")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_follow(console, lesson_id), media_type="text/event-stream", headers=headers)


async def _follow(console: Console, lesson_id: str) -> AsyncIterator[bytes]:
    console.counters["lessons_followed"] += 1
    told, quiet = "", 0
    try:
        yield b"retry: 1000\n\n"
        while True:
            try:
                found = await asyncio.to_thread(_standing, console, lesson_id)
            except HTTPException:  # it was removed
                yield b"event: gone\ndata: {}\n\n"
                return
            now = found.model_dump_json(exclude=_PATHS)
            quiet += 1
            if now != told:
                told, quiet = now, 0
                yield b"event: standing\ndata: " + now.encode() + b"\n\n"
            elif quiet % _ALIVE_EVERY == 0:
                yield _ALIVE
            await asyncio.sleep(_EVERY_S)
    finally:
        console.counters["lessons_followed"] -= 1


def _standing(console: Console, lesson_id: str) -> Standing:
    lessons = console.teaching.lessons
    lesson = _find(console, lesson_id)
    return Standing(
        lesson=lesson,
        progress=lessons.progress(lesson),
        images=len(lessons.images(lesson_id)),
        defects={kind: len(names) for kind, names in lessons.defects(lesson_id).items()},
        checked=(lessons.path(lesson_id) / "out" / "check" / "suspects.json").is_file(),
        detectors=lessons.detectors.is_file(),
        fitted=(lessons.path(lesson_id) / "out" / "found.json").is_file(),
    )


def _find(console: Console, lesson_id: str) -> Lesson:
    """Return a lesson; answer 404 if there is none."""
    try:
        return console.teaching.lessons.read(lesson_id)
    except (InputError, FileNotFoundError) as error:
        raise HTTPException(404, f"there is no lesson {lesson_id}") from error
    except ConfigurationError as error:
        raise HTTPException(500, str(error)) from error


def _found(console: Console, lesson_id: str, name: str) -> Response:
    _find(console, lesson_id)
    content = _read(console.teaching.lessons.path(lesson_id) / "out" / name)
    if content is None:
        raise HTTPException(404, f"lesson {lesson_id} has nothing of that kind yet")
    return Response(content, media_type="application/json")


def _picture(path: File, side_px: int | None) -> Response:
    content = path.read_bytes()
    if side_px is not None:
        content = thumbnail.shrink(content, side_px)
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
    return Response(content, media_type=kind, headers=_KEEP)


def _read(path: File) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_REPORT_BYTES)
    except FileNotFoundError:
        return None
