"""Drafts of recipes: what is in force and was, what another content says, and what it would have done.

A content is what `config/recipe.py` makes of a recipe: pictures stand in it whole, bundles are named by digest. What
takes a restart of the station (product, job, views, bundles) is no draft's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from config import recipe as recipes
from config.errors import ConfigurationError, ConflictError, InputError
from config.recipe import Recipe
from storage.console.access import needs
from storage.console.context import Console, TheConsole
from storage.console.models import Problem
from storage.console.rendering import render
from storage.console.trials import LONGEST_HOURS, Scores, Trial
from storage.differences import Difference, differences
from storage.people import Person, Role
from storage.proposals import Proposal, Stored
from storage.query.filters import Filter

LARGEST_CONTENT = 1024 * 1024  # characters of JSON
_PICTURES_OF = 100  # parts that are looked through for a picture of each view
_PREFIX = "Value error, "  # pydantic's, before what a validator of ours says
_RESTART = "the processes have loaded that: change the recipe's file, and stop and start the station"

Name = Annotated[str, InPath(max_length=100, description="a recipe's name in the station file")]
Digest = Annotated[str, Field(max_length=100, pattern=r"^sha256:[0-9a-f]{64}$")]
Hours = Annotated[int, Query(ge=1, le=LONGEST_HOURS, description="how far back parts are taken from")]
Viewer = Annotated[Person, needs(Role.VIEWER)]
Engineer = Annotated[Person, needs(Role.ENGINEER)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Said):
    """What is wrong with a field, such as `views.front.review_above`; empty: with the whole."""

    field: str
    problem: str


class Refused(Problem):
    """Why a recipe is not taken: what is wrong with its content, field by field."""

    faults: tuple[Fault, ...] | None = None


class DraftError(InputError):
    """A content is no recipe that could be in force."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.field or 'recipe'}: {fault.problem}" for fault in faults))
        self.more: dict[str, object] = {"faults": [fault.model_dump() for fault in faults]}


class SupersededError(ConflictError):
    """Another version is in force than the one that a change was based on; `changes` lead from that one to it."""

    def __init__(self, based_on: str, now: InForceContent, changes: list[Difference]) -> None:
        super().__init__(
            f"it is based on {based_on[:19]}, but version {now.version} is in force by now, {now.digest[:19]}"
        )
        self.more: dict[str, object] = {"in_force": now.digest, "changes": [one.model_dump() for one in changes]}


RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "there is no such thing"},
    422: {"model": Refused, "description": "it makes no sense; `faults` name the fields of a content"},
}
router = APIRouter(tags=["recipes"], responses=RESPONSES)


class Pictured(_Said):
    """A view's frames, and the address of a picture of one; without any part yet, nothing is known."""

    width_px: int | None
    height_px: int | None
    picture: str | None


class InForceContent(_Said):
    """What is in force under a name, whole."""

    name: str
    product: str
    job: int
    version: int
    digest: str
    content: dict[str, JsonValue]


class Versions(_Said):
    """The versions that a recipe has had, the highest first; `in_force` is a digest."""

    in_force: str
    versions: tuple[Stored, ...]


class Diff(_Said):
    """What two versions say differently."""

    changes: tuple[Difference, ...]


class Tried(_Said):
    """What a draft changes, and what it would have done."""

    changes: tuple[Difference, ...]
    trial: Trial


class Draft(_Said):
    """Another content of a recipe, to be tried on the parts of the last hours."""

    content: dict[str, JsonValue]
    hours: int = Field(default=8, ge=1, le=LONGEST_HOURS)


async def refuse(_: Request, error: Exception) -> Response:
    """Answer a draft that makes no sense with its faults, and a change that came too late with what is in force."""
    status = HTTPStatus.CONFLICT if isinstance(error, ConflictError) else HTTPStatus.UNPROCESSABLE_ENTITY
    more: dict[str, object] = getattr(error, "more", {})
    return JSONResponse({"detail": str(error), **more}, status)


@router.get("/recipes", response_class=HTMLResponse, include_in_schema=False)
def recipes_page(console: TheConsole, request: Request, _: Viewer) -> Response:
    """Show the recipe that counts, or the first one."""
    return _page(console, request, console.station.recipe)


@router.get("/recipes/{name}", response_class=HTMLResponse, include_in_schema=False)
def recipe_page(console: TheConsole, request: Request, name: Name, _: Viewer) -> Response:
    """Show a recipe: what is in force, its versions and proposals, and the editor."""
    return _page(console, request, name)


@router.get("/api/recipes/{name}")
def in_force(console: TheConsole, name: Name, _: Viewer) -> InForceContent:
    """Return what is in force under a name."""
    return current(console, name)[0]


@router.get("/api/recipes/{name}/versions")
def versions(console: TheConsole, name: Name, _: Viewer) -> Versions:
    """Return the versions that a recipe has had."""
    now, _recipe = current(console, name)
    found = console.proposals.versions(name)
    return Versions(in_force=now.digest, versions=tuple(found))


@router.get("/api/recipes/{name}/proposals")
def proposals(console: TheConsole, name: Name, _: Viewer) -> list[Proposal]:
    """Return the last proposals for a recipe, newest first."""
    current(console, name)
    return console.proposals.of(name)


@router.get("/api/recipes/{name}/diff")
def diff(
    console: TheConsole, name: Name, before: Annotated[Digest, Query()], after: Annotated[Digest, Query()], _: Viewer
) -> Diff:
    """Return what two versions say differently, field by field."""
    now, _recipe = current(console, name)
    return Diff(changes=tuple(differences(content_of(console, now, before), content_of(console, now, after))))


@router.get("/api/recipes/{name}/pictures")
def pictures(console: TheConsole, name: Name, _: Viewer) -> dict[str, Pictured]:
    """Return the size of each view's frames and where a picture of one is, of the last parts that have any."""
    _now, recipe = current(console, name)
    found: dict[str, Pictured] = {}
    for line in console.query.parts(Filter(recipe=name), None, _PICTURES_OF).parts:
        kept = {image.camera for image in line.images if image.purpose == "image"} - found.keys()
        part = console.query.part(line.part_id) if kept else None
        for detail in part.details if part else ():
            if detail.camera in kept and detail.frame_shape is not None:
                height_px, width_px = detail.frame_shape[:2]
                address = f"/api/images/{line.part_id}/{detail.camera}/image?side_px=1024"
                found[detail.camera] = Pictured(width_px=width_px, height_px=height_px, picture=address)
        if found.keys() >= recipe.views.keys():
            break
    nothing = Pictured(width_px=None, height_px=None, picture=None)
    return {camera: found.get(camera, nothing) for camera in recipe.views}


@router.get("/api/recipes/{name}/scores")
def scores(console: TheConsole, name: Name, _: Viewer, hours: Hours = 8, anew: bool = False) -> Scores:  # noqa: FBT001, FBT002 - a parameter of the query
    """Return the scores of the last hours' parts, loaded for what-if; `anew`: also where they are loaded already."""
    current(console, name)
    return console.trials.scores(name, hours, anew=anew)


@router.post("/api/recipes/{name}/what-if")
def what_if(console: TheConsole, name: Name, draft: Draft, _: Viewer) -> Tried:
    """Return what a draft would have made of the last hours' parts; nothing is changed."""
    _now, recipe = current(console, name)
    with read(draft.content, recipe) as other:
        changes = differences(recipes.content(recipe), recipes.content(other))
        return Tried(changes=tuple(changes), trial=console.trials.judge(name, draft.hours, other))


def current(console: Console, name: str) -> tuple[InForceContent, Recipe]:
    """Return what is in force under a name; answer 404 where the station has no such recipe."""
    recipe = console.home.read_recipes().get(name)
    if recipe is None:
        raise HTTPException(
            404, f"there is no recipe {name!r:.100}: the station has {', '.join(console.station.recipes)}"
        )
    content = recipes.content(recipe)
    told = InForceContent(
        name=name,
        product=recipe.product,
        job=recipe.job,
        version=recipe.version,
        digest=recipes.digest(content),
        content=json.loads(content),
    )
    return told, recipe


def content_of(console: Console, now: InForceContent, digest: str) -> str:
    """Return a version's content; raise InputError where the recipe has had none of this digest."""
    if digest == now.digest:
        return json.dumps(now.content)
    return console.proposals.content(now.name, digest)


def insist_on(console: Console, now: InForceContent, based_on: str) -> None:
    """Raise SupersededError unless the version `based_on` is in force."""
    if based_on != now.digest:
        before = console.proposals.content(now.name, based_on)
        raise SupersededError(based_on, now, differences(before, json.dumps(now.content)))


@contextmanager
def read(content: dict[str, JsonValue], like: Recipe) -> Iterator[Recipe]:
    """Give the recipe that a content says, with pictures as files for so long; raise DraftError for whatever is wrong.

    Its version and bundles are those of `like`, which is in force.
    """
    said = json.dumps({**content, "version": like.version})
    if len(said) > LARGEST_CONTENT:
        raise InputError(f"content: {len(said)} characters are too many: {LARGEST_CONTENT} at most")
    with TemporaryDirectory(prefix="andon-draft-") as folder:

        def picture(pixels: bytes) -> Path:
            path = Path(folder) / f"{sha256(pixels).hexdigest()}.picture"
            path.write_bytes(pixels)
            return path

        try:
            found = recipes.from_content(said, lambda _: Path(), picture)
        except ValidationError as error:
            raise DraftError(_faults(error)) from error
        if fixed := _fixed(found, like):
            raise DraftError(fixed)
        bundles = {
            camera: view.model_copy(update={"bundle": like.views[camera].bundle})
            for camera, view in found.views.items()
        }
        try:
            yield found.model_copy(update={"views": bundles})
        except ConfigurationError as error:  # of a picture: its place says nothing to who sent it
            problem = str(error).partition(": ")[2] or str(error)
            raise DraftError((Fault(field="views", problem=problem),)) from error


def _page(console: Console, request: Request, name: str) -> Response:
    now, _recipe = current(console, name)
    return render(
        request, "recipes.html", here="recipes", recipe=now, names=tuple(console.station.recipes), hours=(1, 8, 24, 72)
    )


def _faults(error: ValidationError) -> tuple[Fault, ...]:
    return tuple(
        Fault(
            field=".".join(str(step) for step in fault["loc"]),
            problem="unknown field" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix(_PREFIX),
        )
        for fault in error.errors(include_url=False, include_context=False)[:50]
    )


def _fixed(found: Recipe, like: Recipe) -> tuple[Fault, ...]:
    """Return what a draft may not change."""
    faults = [
        Fault(field=field, problem=f"is {getattr(like, field)!r} in force, not {getattr(found, field)!r}: {_RESTART}")
        for field in ("product", "job")
        if getattr(found, field) != getattr(like, field)
    ]
    if set(found.views) != set(like.views):
        told = f"are {', '.join(like.views)} in force, not {', '.join(found.views)}: {_RESTART}"
        return (*faults, Fault(field="views", problem=told))
    faults += [
        Fault(field=f"views.{camera}.bundle_digest", problem=_RESTART)
        for camera, view in found.views.items()
        if view.bundle_digest != like.views[camera].bundle_digest
    ]
    return tuple(faults)
