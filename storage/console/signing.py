"""Signing in and out, and one's own password."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from config.errors import InputError, StoreError
from storage import passwords
from storage.console import problems
from storage.console.access import SignedIn
from storage.console.admission import TooManyTriesError
from storage.console.context import Console, TheConsole
from storage.console.door import BY_PROVIDER, cookie_name, safe_next
from storage.console.models import Problem
from storage.console.rendering import render
from storage.people import Role
from storage.sessions import LONGEST

_LONGEST_NAME = 200
_TYPED = 1000  # characters of a password that are looked at, be they too many
_MANY: dict[int | str, dict[str, Any]] = {429: {"model": Problem, "description": "too many tries: see Retry-After"}}
_TAGS: Any = {"tags": ["people"]}

router = APIRouter(**_TAGS)


class Credentials(BaseModel):
    """Who wants to sign in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(max_length=_LONGEST_NAME)
    password: str = Field(max_length=_TYPED, repr=False)


class Passwords(BaseModel):
    """One's present password, and the one that is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    present: str = Field(max_length=_TYPED, repr=False)
    wanted: str = Field(max_length=_TYPED, repr=False)


class Me(BaseModel):
    """Who is signed in."""

    name: str
    role: Role
    token: str | None = Field(description="the token's name, where a program asks")
    must_change: bool = Field(description="the password is a one-time one: nothing else is answered before")


class Farewell(BaseModel):
    """Where a browser goes to end its session at the provider."""

    then: str


class SignIn(BaseModel):
    """What a sign-in page is asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    next: str | None = None


@router.get("/sign-in", include_in_schema=False, response_class=HTMLResponse)
async def sign_in_page(request: Request, console: TheConsole, asked: Annotated[SignIn, Query()]) -> Response:
    """Ask who somebody is; who is signed in already goes on."""
    wanted, secret = safe_next(asked.next), request.cookies.get(cookie_name(console))
    try:
        known = await console.admission.by_session(secret) if secret else None
    except StoreError:
        known = None  # the page says that the database is away when somebody tries
    if known is not None:
        return RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
    return entrance(request, console, wanted)


def entrance(request: Request, console: Console, wanted: str, told: str | None = None) -> Response:
    """Return the sign-in page, from which one goes on to `wanted`; `told` says why one is here again."""
    section = console.station.console.oidc
    provider = (
        None if section is None else {"label": section.label, "path": f"{BY_PROVIDER}?{urlencode({'next': wanted})}"}
    )
    return render(request, "sign_in.html", here="", next=wanted, provider=provider, told=told)


@router.post("/api/sign-in", status_code=HTTPStatus.NO_CONTENT, responses=_MANY)
async def sign_in(request: Request, console: TheConsole, said: Credentials) -> Response:
    """Sign in by name and password: the answer sets the session's cookie."""
    before = request.cookies.get(cookie_name(console))
    try:
        secret = await console.admission.sign_in(said.name, said.password, address(request, console), before)
    except TooManyTriesError as error:
        headers = {"Retry-After": str(error.wait_s)}
        return problems.answer(request, HTTPStatus.TOO_MANY_REQUESTS, str(error), headers)
    if secret is None:
        what = "name or password is wrong; after a few tries you have to wait. An administrator can give you a new one"
        return problems.answer(request, HTTPStatus.UNAUTHORIZED, what)
    return with_session(Response(status_code=HTTPStatus.NO_CONTENT), console, secret)


_FAREWELL: dict[int | str, dict[str, Any]] = {200: {"model": Farewell, "description": "the provider's session is left"}}


@router.post("/api/sign-out", status_code=HTTPStatus.NO_CONTENT, responses=_FAREWELL)
async def sign_out(request: Request, console: TheConsole, signed: SignedIn) -> Response:
    """Sign out: the session ends, not only its cookie; who came by a provider is told where to end that one's, too."""
    name = cookie_name(console)
    secret = request.cookies.get(name)
    if signed.token is not None or secret is None:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "a token does not sign out: it is revoked")
    await asyncio.to_thread(console.sessions.end, secret)
    console.admission.forget(signed.name)
    there = None
    if signed.provided and console.provider is not None:
        there = await console.provider.farewell(console.origin(request.headers.get("host", "")) + "/sign-in")
    answer = Response(status_code=HTTPStatus.NO_CONTENT)
    if there is not None:
        answer = JSONResponse(Farewell(then=there).model_dump())
    answer.delete_cookie(name, path="/", secure=console.secure, httponly=True, samesite="strict")
    return answer


@router.get("/api/me")
async def me(signed: SignedIn) -> Me:
    """Return who you are and what you may do."""
    return Me(name=signed.name, role=signed.person.role, token=signed.token, must_change=signed.must_change)


@router.get("/password", include_in_schema=False, response_class=HTMLResponse)
async def password_page(request: Request, signed: SignedIn) -> Response:
    """Ask for another password."""
    if signed.token is not None or signed.provided:
        what = "a token has no password" if signed.token is not None else "you sign in by the provider: change it there"
        raise HTTPException(HTTPStatus.NOT_FOUND, what)
    limits = {"shortest": passwords.SHORTEST, "longest": passwords.LONGEST}
    return render(request, "password.html", here="", name=signed.name, must_change=signed.must_change, **limits)


@router.post("/api/password", status_code=HTTPStatus.NO_CONTENT, responses=_MANY)
async def change_password(request: Request, console: TheConsole, signed: SignedIn, said: Passwords) -> Response:
    """Change your own password: all your sessions end, and a new one begins here."""
    if signed.token is not None:
        raise HTTPException(HTTPStatus.FORBIDDEN, "a token does not change passwords: sign in")
    if signed.provided:
        raise HTTPException(HTTPStatus.FORBIDDEN, "you sign in by the provider: change your password there")
    try:
        await console.admission.try_password(
            signed.name, lambda: console.roster.change_password(signed.name, said.present, said.wanted)
        )
    except TooManyTriesError as error:
        headers = {"Retry-After": str(error.wait_s)}
        return problems.answer(request, HTTPStatus.TOO_MANY_REQUESTS, str(error), headers)
    console.admission.forget(signed.name)
    where = address(request, console)
    secret = await asyncio.to_thread(console.sessions.sign_in, signed.name, said.wanted, where)
    if secret is None:
        raise InputError("present: the password was changed in this moment by somebody else")
    return with_session(Response(status_code=HTTPStatus.NO_CONTENT), console, secret)


def with_session(answer: Response, console: Console, secret: str) -> Response:
    """Add a session's cookie, which no script reads and no other site sends."""
    answer.set_cookie(
        cookie_name(console),
        secret,
        max_age=int(LONGEST.total_seconds()),
        path="/",
        secure=console.secure,
        httponly=True,
        samesite="strict",
    )
    return answer


def address(request: Request, console: Console) -> str:
    """Return from where a request comes; where a server stands before the console, as that one says last."""
    said = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    if console.station.console.url is not None and said:
        return said[:64]
    return request.client.host if request.client else "unknown"
