"""What may be sent to change something: requests of our own pages, or of programs with a token; bounded in size.

A browser says of every request that is no GET from which page it comes (Fetch standard, 3.2), and sends JSON to
another site only when that site agrees, which this one never does. A token is nothing that a browser adds by itself.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage.console import problems

if TYPE_CHECKING:
    from storage.console.context import Console

LARGEST_JSON_BYTES = 1024 * 1024
LARGEST_UPLOAD_BYTES = 64 * 1024 * 1024
_SAFE = {"GET", "HEAD", "OPTIONS"}  # of these, RFC 9110, 9.2.1; we serve no TRACE


class Origin:
    """Refuse what other sites send to `app`, and what is too large."""

    def __init__(self, app: ASGIApp, console: Console) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        largest = LARGEST_UPLOAD_BYTES if _is_raw(kind) else LARGEST_JSON_BYTES
        refused = self._refused(request, kind, largest)
        if refused is not None:
            await problems.answer(request, *refused)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, largest), send)

    def _refused(self, request: Request, kind: str, largest: int) -> tuple[HTTPStatus, str] | None:
        """Return why a request is refused; None if it is not."""
        headers = request.headers
        said = headers.get("content-length", "0")
        if not said.isascii() or not said.isdigit():
            return HTTPStatus.BAD_REQUEST, "Content-Length: must be a number"
        if int(said) > largest:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(largest)
        if request.method in _SAFE or "authorization" in headers:
            return None
        own, origin, site = self._console.origin(headers.get("host", "")), headers.get("origin"), _site(request)
        if site not in {None, "same-origin"} or origin not in {None, own} or (site is None and origin is None):
            what = f"only pages of {own} may do that, or programs with a token; this comes from {origin or site or '?'}"
            return HTTPStatus.FORBIDDEN, what
        has_body = said != "0" or "transfer-encoding" in headers
        if has_body and kind != "application/json" and not _is_raw(kind):
            what = "Content-Type: must be application/json, or application/octet-stream or image/… for an upload"
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, what
        return None


def _site(request: Request) -> str | None:
    return request.headers.get("sec-fetch-site")


def _is_raw(kind: str) -> bool:
    return kind == "application/octet-stream" or kind.startswith("image/")


def _bounded(receive: Receive, largest: int) -> Receive:
    """Return a `receive` that refuses a body which turns out to be larger than `largest` bytes."""
    received = 0

    async def count() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > largest:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(largest))
        return message

    return count


def _too_large(largest: int) -> str:
    return f"the body may have {largest} bytes at most"
