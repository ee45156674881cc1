"""Why a request is not answered: a page to people, JSON to programs."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request
from starlette.responses import JSONResponse, Response

from storage.console import pages


def for_programs(request: Request) -> bool:
    """Tell whether a script asks, or another program, and no person who could read a page."""
    return request.url.path.startswith("/api/") or request.url.path == "/events"


def answer(request: Request, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that says what is wrong."""
    if for_programs(request):
        again = {"Retry-After": "2"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
        return JSONResponse({"detail": detail}, status, {**again, **(headers or {})})
    shown = pages.problem(request, status, detail)
    shown.headers.update(headers or {})
    return shown
