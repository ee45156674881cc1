"""The recipes of the running station, and another one: the only thing here that changes anything.

Nobody signs in yet, so the switch is only there where the console is bound to this machine, and answers only what comes
from its own pages, or from a program: a browser says of every POST from where it comes, and no other site may send
JSON.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict

from config import activation
from storage.console.context import TheConsole
from storage.console.models import Problem
from storage.switching import switch

router = APIRouter(tags=["recipes"], responses={503: {"model": Problem, "description": "the station does not run"}})


class Wanted(BaseModel):
    """Which recipe is to count."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recipe: str


class RecipeInForce(BaseModel):
    """A recipe of the station in the version that is in force."""

    name: str
    product: str
    job: int
    version: int
    digest: str
    refused: str | None


class InForce(BaseModel):
    """The station's recipes; `plc_job`: the job that the PLC asks for, and then nobody else chooses; 0: none."""

    active: str | None
    plc_job: int
    recipes: tuple[RecipeInForce, ...]


@router.get("/api/recipes")
def recipes(console: TheConsole) -> InForce:
    """Return the recipes as they are in force, and the one that counts."""
    return InForce.model_validate(to_builtins(activation.recipes(console.home)))


_REFUSED: dict[int | str, dict[str, Any]] = {403: {"model": Problem, "description": "not from here"}}


@router.post("/api/recipes/active", responses=_REFUSED)
def activate(console: TheConsole, wanted: Wanted, request: Request) -> InForce:
    """Have parts judged by another recipe from now on; entered into the audit trail as the console's doing."""
    if not console.private:
        raise HTTPException(403, "nobody signs in here: only a console that is bound to this machine may switch")
    _insist_on_own_page(request)
    by = f"console at {request.client.host if request.client else 'unknown'}"
    return InForce.model_validate(to_builtins(switch(console.home, console.database, wanted.recipe, by)))


def _insist_on_own_page(request: Request) -> None:
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    elsewhere = site not in {None, "same-origin"} or origin not in {None, f"http://{headers.get('host')}"}
    if elsewhere or headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(403, "only this console's own pages may do that, or a program that sends JSON")
