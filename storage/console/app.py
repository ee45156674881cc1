"""The console as an ASGI application: pages, API and events over one station's live picture and its stored parts."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from config.errors import ConflictError, ImageLostError, InputError, ServiceError, StoreError
from storage.console import (
    access,
    alarms,
    api,
    approvals,
    assets,
    comparison,
    drafts,
    export,
    exports,
    pages,
    people,
    problems,
    provided,
    recipes,
    review,
    signing,
    similar,
    statistics,
    teaching,
)
from storage.console.context import Console
from storage.console.door import Door
from storage.console.headers import SecurityHeaders
from storage.console.origin import Origin

_DESCRIPTION = """A program sends `Authorization: Bearer TOKEN` (`andon token add`, or the page People); an operation
that names no role is for everybody who is signed in. Times are ISO 8601, durations milliseconds, lengths pixels of the
frame. Who is not signed in is answered with 401, too low a role with 403, a wrong parameter with 422, an unknown part
with 404, an image whose bytes are lost with 410, a database that is away with 503; each says why in `detail`."""


def make_app(console: Console) -> FastAPI:
    """Return the application that serves `console`."""
    app = FastAPI(
        title=f"Andon station {console.station.station}",
        description=_DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        responses=access.RESPONSES,
    )
    app.state.console = console
    app.include_router(api.router)
    app.include_router(alarms.router)
    app.include_router(review.router)
    app.include_router(export.router)
    app.include_router(exports.router)
    app.include_router(comparison.router)
    app.include_router(similar.router)
    app.include_router(recipes.router)
    app.include_router(drafts.router)
    app.include_router(approvals.router)
    app.include_router(teaching.router)
    app.include_router(people.router)
    app.include_router(signing.router)
    app.include_router(provided.router)
    app.include_router(statistics.router)
    app.include_router(pages.router)
    app.mount(assets.PREFIX, assets.Assets())
    app.add_exception_handler(InputError, _wrong)
    app.add_exception_handler(drafts.DraftError, drafts.refuse)
    app.add_exception_handler(ConflictError, drafts.refuse)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(ImageLostError, _lost)
    app.add_exception_handler(StoreError, _away)
    app.add_exception_handler(ServiceError, _away)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Door, console=console)
    app.add_middleware(Origin, console=console)
    if console.private:
        # a page from elsewhere must not reach us through a name of its own that it points to this machine
        hosts = ["localhost", "127.0.0.1", "[::1]", console.station.console.host]
        hosts += [name] if (name := urlsplit(console.station.console.url or "").hostname) else []
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(SecurityHeaders)
    return app


async def _wrong(request: Request, error: Exception) -> Response:
    """Answer what cannot be asked so."""
    if isinstance(error, RequestValidationError):
        text = "; ".join(_fault(fault) for fault in error.errors())
    else:
        text = str(error)
    return problems.answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, text)


def _fault(fault: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, with its name."""
    if fault["type"] == "json_invalid":
        return f"body: is no JSON from character {fault['loc'][-1]} on: {fault['ctx']['error']}"
    return f"{'.'.join(str(step) for step in fault['loc'][1:]) or 'body'}: {fault['msg']}"


async def _away(request: Request, error: Exception) -> Response:
    return problems.answer(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))


async def _lost(request: Request, error: Exception) -> Response:
    return problems.answer(request, HTTPStatus.GONE, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return problems.answer(request, HTTPStatus(error.status_code), str(error.detail))


async def _broken(request: Request, _: Exception) -> Response:
    """Answer for a fault of ours; its traceback is in the log."""
    return problems.answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the console made a mistake; its log says which")
