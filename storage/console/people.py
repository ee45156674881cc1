"""The people of the station and their tokens, for administrators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from storage.console.access import needs
from storage.console.context import TheConsole
from storage.console.rendering import render
from storage.people import Person, Role
from storage.roster import Member, name_of
from storage.tokens import LONGEST_DAYS, Token

_LONGEST_NAME = 200
Admin = Annotated[Person, needs(Role.ADMIN)]
Name = Annotated[str, Path(max_length=_LONGEST_NAME, description="a person's name")]
TokenName = Annotated[str, Path(max_length=_LONGEST_NAME, description="a token's name")]

router = APIRouter(tags=["people"])


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewPerson(_Said):
    """Somebody who is to be known here."""

    name: str = Field(max_length=_LONGEST_NAME)
    role: Role


class Changed(_Said):
    """What is to be changed of a person; what is null stays."""

    role: Role | None = None
    disabled: bool | None = None


class NewToken(_Said):
    """A token that a program is to speak by."""

    name: str = Field(max_length=_LONGEST_NAME)
    person: str = Field(max_length=_LONGEST_NAME)
    role: Role
    days: int | None = Field(365, ge=1, le=LONGEST_DAYS, description="until it ends; null: never")


class OneTime(BaseModel):
    """A password that is told once; it has to be changed at the first sign-in."""

    name: str
    password: str


class Secret(BaseModel):
    """A token that is told once."""

    name: str
    token: str


@router.get("/people", include_in_schema=False, response_class=HTMLResponse)
def page(request: Request, console: TheConsole, person: Admin) -> Response:
    """Show who may do what."""
    shown = {"members": console.roster.members(), "tokens": console.tokens.all(), "roles": list(Role)}
    return render(request, "people.html", here="people", own=person.name, **shown)


@router.get("/api/people")
def people(console: TheConsole, _: Admin) -> list[Member]:
    """Return everybody who is known here."""
    return console.roster.members()


@router.post("/api/people", status_code=HTTPStatus.CREATED)
def add(console: TheConsole, person: Admin, said: NewPerson) -> OneTime:
    """Add a person; the answer has the one-time password, which nobody can read again."""
    password = console.roster.add(said.name, said.role, person.name)
    return OneTime(name=name_of(said.name), password=password)


@router.put("/api/people/{name}")
def change(console: TheConsole, person: Admin, name: Name, said: Changed) -> list[Member]:
    """Change what a person may do, or keep them out: it counts at once, in sessions that are open, too."""
    if said.role is not None:
        console.roster.set_role(name, said.role, person.name)
    if said.disabled is not None:
        console.roster.disable(name, person.name, disabled=said.disabled)
    console.admission.forget(name_of(name))
    return console.roster.members()


@router.post("/api/people/{name}/password")
def reset(console: TheConsole, person: Admin, name: Name) -> OneTime:
    """Give a person a one-time password, which nobody can read again; their sessions end."""
    password = console.roster.reset(name, person.name)
    console.admission.forget(name_of(name))
    return OneTime(name=name_of(name), password=password)


@router.get("/api/tokens")
def tokens(console: TheConsole, _: Admin) -> list[Token]:
    """Return all tokens, without their secrets."""
    return console.tokens.all()


@router.post("/api/tokens", status_code=HTTPStatus.CREATED)
def add_token(console: TheConsole, person: Admin, said: NewToken) -> Secret:
    """Add a token; the answer has it, and nobody can read it again."""
    return Secret(name=said.name, token=console.tokens.add(said.name, said.person, said.role, said.days, person.name))


@router.delete("/api/tokens/{name}", status_code=HTTPStatus.NO_CONTENT)
def revoke(console: TheConsole, person: Admin, name: TokenName) -> None:
    """Make a token worth nothing, at once."""
    owner = next((token.person for token in console.tokens.all() if token.name == name), None)
    console.tokens.revoke(name, person.name)
    if owner is not None:
        console.admission.forget(owner)
