"""Templates as pages: in the reader's language, with the navigation that the reader's role allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.routing import Match

from config.messages import Judgement, Reason
from storage.console import assets, display
from storage.console.context import Console
from storage.console.language import COOKIE, Language, chosen, say, text
from storage.console.search import When
from storage.people import Role
from storage.query.filters import ReviewState
from storage.sessions import Signed

_FOLDER = Path(__file__).parent / "templates"
_SCHEMES = {"light": "not all", "dark": "all"}  # cookie -> media that the dark colours are for


@dataclass(frozen=True)
class _Entry:
    """A page that the navigation names."""

    name: str
    path: str
    title: str
    least: Role = Role.VIEWER


_NAVIGATION = (
    _Entry("live", "/", text("Live")),
    _Entry("defects", "/defects", text("Defects")),
    _Entry("review", "/review", text("Review")),
    _Entry("statistics", "/statistics", text("Statistics")),
    _Entry("recipes", "/recipes", text("Recipes")),
    _Entry("teach", "/teach", text("Teach"), Role.ENGINEER),
    _Entry("people", "/people", text("People"), Role.ADMIN),
)


def render(request: Request, template: str, here: str, **values: object) -> HTMLResponse:
    """Return the page that `template` makes of `values`; `here` is its name in the navigation."""
    console: Console = request.app.state.console
    signed: Signed | None = getattr(request.state, "signed", None)  # nobody is, on the sign-in page
    person = None if signed is None else signed.person
    may = None if signed is None or signed.must_change else signed.person.role
    page = _environment(language(request)).get_template(template)
    return HTMLResponse(
        page.render(
            station=console.station,
            private=console.private,
            demo=console.demo,
            person=person,
            has_password=signed is not None and not signed.provided,
            Role=Role,
            navigation=[
                entry
                for entry in _NAVIGATION
                if may is not None and may >= entry.least and _serves(request.app, entry.path)
            ],
            here=here,
            dark=_SCHEMES.get(request.cookies.get("scheme", ""), "(prefers-color-scheme: dark)"),
            **values,
        )
    )


def language(request: Request) -> Language:
    """Return the language that the answer should be in."""
    return chosen(request.cookies.get(COOKIE), request.headers.get("accept-language"))


@cache
def _serves(app: FastAPI, path: str) -> bool:
    """Tell whether there is such a page."""
    asked = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(asked)[0] is Match.FULL for route in app.routes)


@cache
def _environment(spoken: Language) -> Environment:
    """Return the templates as they speak one language: filters that write words translate them."""

    def translate(english: str, **named: object) -> str:
        return say(spoken, english, **named)

    def in_words(write: Callable[[Any], str]) -> Callable[[Any], str]:
        return lambda value: translate(write(value))

    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(display.FILTERS)
    made.filters.update({name: in_words(write) for name, write in display.WORDING.items()})
    made.globals.update(
        _=translate,
        language=spoken,
        other=Language.ENGLISH if spoken is Language.KOREAN else Language.KOREAN,
        static=assets.PREFIX,
        judgements=tuple(Judgement),
        Reason=Reason,
        When=When,
        ReviewState=ReviewState,
    )
    return made
