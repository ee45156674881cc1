"""Signing in by the OpenID Connect provider: away to it, and back.

A cookie that is SameSite=Strict does not come with a navigation that another site began: the way back ends on a page of
ours that goes on by itself, and that step begins here.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from config.errors import StoreError
from config.log import logger
from storage.console.begun import LASTS_S
from storage.console.context import Console, TheConsole
from storage.console.door import BACK, BY_PROVIDER, cookie_name, safe_next
from storage.console.language import text
from storage.console.rendering import render
from storage.console.signing import address, entrance, with_session
from storage.vouched import AwayError, NotVouchedError, Refusal

_OVER = text("That sign-in was not begun in this browser, or too long ago. Begin again.")
_AWAY = text("The company's sign-in does not answer. Passwords of this station go on.")
_REFUSED = text("The company's sign-in did not say who you are. Begin again, or ask an administrator.")
_DATABASE = text("The database is away: nobody can sign in until it is back. Whoever is signed in stays so.")
_WHY = {
    Refusal.NO_ROLE: text("You are known, but none of your groups may come in here. Ask an administrator."),
    Refusal.NO_NAME: text("You are known, but your name cannot be one of this station. Ask an administrator."),
    Refusal.NAME_TAKEN: text("Somebody else of this station has your name already. Ask an administrator."),
    Refusal.KEPT_OUT: text("An administrator keeps you out."),
}

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


class Return(BaseModel):
    """What the provider sends a browser back with (RFC 6749, 4.1.2)."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    state: str = Field("", max_length=200)
    code: str = Field("", max_length=4000)
    error: str = Field("", max_length=1000)


@router.get(BY_PROVIDER)
async def leave(request: Request, console: TheConsole, next: str | None = None) -> Response:  # noqa: A002 - as /sign-in says it
    """Send a browser to the provider; only a page of our own may begin that."""
    wanted = safe_next(next)
    provider = console.provider
    if provider is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "this station has no such sign-in")
    if request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return entrance(request, console, wanted)
    back = console.origin(request.headers.get("host", "")) + BACK
    state, secret, begun = console.begun.begin(
        back, wanted, request.cookies.get(cookie_name(console)), time.monotonic()
    )
    try:
        there = await provider.address(state, begun)
    except AwayError:
        console.begun.take(state, secret, time.monotonic())
        return _refuse(request, console, wanted, _AWAY, HTTPStatus.SERVICE_UNAVAILABLE)
    answer = RedirectResponse(there, HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        _cookie(console), secret, int(LASTS_S), path="/", secure=console.secure, httponly=True, samesite="lax"
    )
    return answer


@router.get(BACK)
async def come_back(request: Request, console: TheConsole, said: Annotated[Return, Query()]) -> Response:
    """Begin the session of whom the provider vouches for."""
    provider, secret = console.provider, request.cookies.get(_cookie(console), "")
    if provider is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "this station has no such sign-in")
    begun = console.begun.take(said.state, secret, time.monotonic())
    if begun is None:
        return _refuse(request, console, "/", _OVER, HTTPStatus.BAD_REQUEST)
    try:
        if said.error or not said.code:
            raise NotVouchedError(f"it answered {said.error!r:.200}")  # noqa: TRY301 - refused as what it says elsewhere
        vouched = await provider.vouch(said.code, begun)
        came = await asyncio.to_thread(console.sessions.admit, vouched, address(request, console), begun.before)
    except AwayError:
        return _refuse(request, console, begun.wanted, _AWAY, HTTPStatus.SERVICE_UNAVAILABLE)
    except StoreError:
        return _refuse(request, console, begun.wanted, _DATABASE, HTTPStatus.SERVICE_UNAVAILABLE)
    except NotVouchedError as error:
        logger().warning("not_vouched", why=str(error), address=address(request, console))
        return _refuse(request, console, begun.wanted, _REFUSED, HTTPStatus.FORBIDDEN)
    if isinstance(came, Refusal):
        logger().warning("vouched_but_refused", why=came.value, name=vouched.name[:80], subject=vouched.subject)
        return _refuse(request, console, begun.wanted, _WHY[came], HTTPStatus.FORBIDDEN)
    console.admission.forget(came.name)
    answer = with_session(render(request, "entering.html", here="", next=begun.wanted), console, came.secret)
    return _without_cookie(answer, console)


def _refuse(request: Request, console: Console, wanted: str, told: str, status: HTTPStatus) -> Response:
    """Show the sign-in page again, with what is the matter."""
    console.counters["provider_sign_ins_refused"] += 1
    answer = entrance(request, console, wanted, told)
    answer.status_code = status
    return _without_cookie(answer, console)


def _cookie(console: Console) -> str:
    return f"{cookie_name(console)}-provider"


def _without_cookie(answer: Response, console: Console) -> Response:
    answer.delete_cookie(_cookie(console), path="/", secure=console.secure, httponly=True, samesite="lax")
    return answer
