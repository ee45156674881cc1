"""The one way in: whoever is not signed in gets nothing but the sign-in page, whatever a route forgot to ask.

A browser shows a session's cookie, a program `Authorization: Bearer TOKEN`. Least roles are the routes' own
(`access.py`); without one a route is for everybody who is signed in.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.errors import StoreError
from storage.console import problems

if TYPE_CHECKING:
    from storage.console.context import Console
    from storage.sessions import Signed

BY_PROVIDER = "/sign-in/provider"
BACK = f"{BY_PROVIDER}/back"
_OPEN = {"/healthz", "/sign-in", "/api/sign-in", BY_PROVIDER, BACK}
_OPEN_BELOW = "/static/"
_TO_CHANGE = {"/password", "/api/password", "/api/sign-out", "/api/me"}  # with a one-time password
_LOOK_S = 2.0  # whether somebody who follows is still signed in
_BEARER = re.compile(r"[Bb]earer ([A-Za-z0-9_-]{10,200})")
_LONGEST_NEXT = 2000


def is_open(path: str) -> bool:
    """Tell whether a path answers everybody."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def cookie_name(console: Console) -> str:
    """Return the name of a station's cookie: a machine's stations share a host, and cookies know no ports.

    `__Host-` (RFC 6265bis, 4.1.3.2) is only believed by browsers where the page comes by TLS.
    """
    return f"{'__Host-' if console.secure else ''}andon-{console.station.station}"


def safe_next(said: str | None) -> str:
    """Return where to go after the sign-in: a path of this console, whatever was asked for."""
    if said is None or len(said) > _LONGEST_NEXT or not re.fullmatch(r"/(?![/\\])[!-~]*", said) or "\\" in said:
        return "/"
    return "/" if said.startswith(("/sign-in", "/api/", "/events")) else said


class Door:
    """Admit who is signed in to `app`, and note in the request's state who that is."""

    def __init__(self, app: ASGIApp, console: Console) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and is_open(scope["path"])):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # nothing here speaks anything else, and the server closes what nobody accepts
        request = Request(scope)
        try:
            signed = await self._find(request, used=True)
        except StoreError as error:
            refusal: Response | None = problems.answer(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        else:
            refusal = _unknown(request) if signed is None else _unchanged(request, signed)
        if refusal is not None or signed is None:
            await (refusal or _unknown(request))(scope, receive, send)
            return
        request.state.signed, request.state.person = signed, signed.person
        await self._app(scope, self._while_signed_in(request, receive), send)

    async def _find(self, request: Request, *, used: bool) -> Signed | None:
        admission, said = self._console.admission, request.headers.get("authorization")
        if said is not None:
            token = _BEARER.fullmatch(said)
            return await admission.by_token(token[1]) if token else None
        secret = request.cookies.get(cookie_name(self._console))
        return await admission.by_session(secret, used=used) if secret else None

    def _while_signed_in(self, request: Request, receive: Receive) -> Receive:
        """Return a `receive` that says the browser has gone, once who follows a stream is not signed in any more."""

        async def receive_or_end() -> Message:
            waiting = asyncio.ensure_future(receive())
            try:
                while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                    try:
                        if await self._find(request, used=False) is None:
                            return {"type": "http.disconnect"}
                    except StoreError:
                        return {"type": "http.disconnect"}
                return waiting.result()
            finally:
                waiting.cancel()

        return receive_or_end


def _unknown(request: Request) -> Response:
    """Answer who is not signed in: programs with 401, people with the page where they can."""
    if problems.for_programs(request):
        challenge = {"WWW-Authenticate": 'Bearer realm="Andon"'}
        what = "you are not signed in: sign in at /sign-in, or send Authorization: Bearer with a valid token"
        return problems.answer(request, HTTPStatus.UNAUTHORIZED, what, challenge)
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = safe_next(asked) if request.method in {"GET", "HEAD"} else "/"
    return RedirectResponse("/sign-in" + (f"?{urlencode({'next': wanted})}" if wanted != "/" else ""), 303)


def _unchanged(request: Request, signed: Signed) -> Response | None:
    """Answer who has a one-time password and wants anything else than another one; None where all is well."""
    if not signed.must_change or signed.token is not None or request.url.path in _TO_CHANGE:
        return None
    if problems.for_programs(request):
        what = "your one-time password comes first: choose one of your own at /password"
        return problems.answer(request, HTTPStatus.FORBIDDEN, what)
    return RedirectResponse("/password", 303)
