"""From a draft to a version in force: proposed, approved, activated, and rolled back; by people who may.

The decision stage checks and numbers what it is given and takes it between two parts (`decision/recipefiles.py`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from config import activation
from config import recipe as recipes
from config.errors import InputError
from config.messages import Adopt
from storage.console.access import SignedIn
from storage.console.context import Console, TheConsole
from storage.console.drafts import (
    RESPONSES,
    Digest,
    Engineer,
    InForceContent,
    Name,
    Viewer,
    content_of,
    current,
    insist_on,
    read,
)
from storage.console.models import Problem
from storage.differences import Difference, differences
from storage.proposals import LONGEST_COMMENT, Activation, Proposal


class Superseded(Problem):
    """Why a change is not made: another version is in force, `changes` lead to it from the one it was based on."""

    in_force: str | None = None
    changes: tuple[Difference, ...] | None = None


_RESPONSES: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    409: {"model": Superseded, "description": "another version is in force by now, or somebody has decided already"},
}
router = APIRouter(tags=["recipes"], responses=_RESPONSES)

Number = Annotated[int, InPath(ge=1, lt=2**31, description="of a proposal")]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    comment: str = Field(default="", max_length=LONGEST_COMMENT)


class Comment(_Said):
    """Why."""


class Proposed(_Said):
    """A recipe's next version, and the one that it is based on."""

    recipe: str = Field(max_length=100)
    based_on: Digest
    content: dict[str, JsonValue]


class Back(_Said):
    """An earlier version that is wanted in force again, in place of the one `based_on`."""

    digest: Digest
    based_on: Digest


class Whole(BaseModel):
    """A proposal with its content, and what it changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    proposal: Proposal
    content: dict[str, JsonValue]
    changes: tuple[Difference, ...]


@router.post("/api/proposals", status_code=201)
def propose(console: TheConsole, wanted: Proposed, signed: SignedIn, _: Engineer) -> Proposal:
    """Propose a recipe's next version; it is validated whole, and nothing is in force by it."""
    now, recipe = current(console, wanted.recipe)
    insist_on(console, now, wanted.based_on)
    with read(wanted.content, recipe) as draft:
        console.judging.check(draft)
        content = recipes.content(draft)
    before = recipes.content(recipe)
    return console.proposals.add(wanted.recipe, wanted.based_on, (before, content), wanted.comment, signed)


@router.get("/api/proposals/{number}")
def proposal(console: TheConsole, number: Number, _: Viewer) -> Whole:
    """Return a proposal with what it changes of the version that it is based on."""
    found, content = _found(console, number)
    now, _recipe = current(console, found.recipe)
    changes = differences(content_of(console, now, found.based_on), content)
    return Whole(proposal=found, content=json.loads(content), changes=tuple(changes))


@router.post("/api/proposals/{number}/approve")
def approve(console: TheConsole, number: Number, signed: SignedIn, _: Engineer) -> Proposal:
    """Approve a proposal; where the station asks for four eyes, not one's own."""
    found, _content = _found(console, number)
    insist_on(console, current(console, found.recipe)[0], found.based_on)
    return console.proposals.approve(number, signed, four_eyes=console.station.console.four_eyes)


@router.post("/api/proposals/{number}/reject")
def reject(console: TheConsole, number: Number, why: Comment, signed: SignedIn, _: Engineer) -> Proposal:
    """Reject a proposal, also one that was approved."""
    _found(console, number)
    return console.proposals.reject(number, signed, why.comment)


@router.post("/api/proposals/{number}/activate")
def activate(console: TheConsole, number: Number, signed: SignedIn, person: Engineer) -> InForceContent:
    """Put an approved proposal in force, from one part on; its version number is made by the station."""
    found, _content = _found(console, number)
    now, recipe = current(console, found.recipe)
    insist_on(console, now, found.based_on)
    activated = _activation(console, found.recipe, now.digest, person.name)
    console.proposals.activate(number, signed, recipes.content(recipe), activated)
    return _registered(console, found.recipe, person.name)


@router.post("/api/recipes/{name}/roll-back")
def roll_back(console: TheConsole, name: Name, back: Back, signed: SignedIn, person: Engineer) -> InForceContent:
    """Put an earlier version in force again, as it was."""
    now, recipe = current(console, name)
    insist_on(console, now, back.based_on)
    if back.digest == now.digest:
        raise InputError(f"version {now.version} is in force: there is nothing to roll back to")
    activated = _activation(console, name, now.digest, person.name)
    console.proposals.roll_back(
        name, back.digest, signed, back.comment, before=recipes.content(recipe), activation=activated
    )
    return _registered(console, name, person.name)


def _found(console: Console, number: int) -> tuple[Proposal, str]:
    try:
        return console.proposals.get(number)
    except InputError as error:
        raise HTTPException(404, str(error)) from error


def _activation(console: Console, name: str, based_on: str, by: str) -> Activation:
    def activated(content: str) -> str:
        answer = activation.adopt(console.home, Adopt(recipe=name, based_on=based_on, by=by), content)
        return next(one.digest for one in answer.recipes if one.name == name)

    return activated


def _registered(console: Console, name: str, by: str) -> InForceContent:
    """Put what is in force now into the library, so that it is among the versions at once, and return it."""
    now, recipe = current(console, name)
    console.library.register(by, {name: recipe}, {})
    return now
