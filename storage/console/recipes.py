"""The recipes of the running station, and the changeover to another one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict

from config import activation
from storage.console.access import needs
from storage.console.context import TheConsole
from storage.people import Person, Role
from storage.switching import switch

router = APIRouter(tags=["recipes"])


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


@router.post("/api/recipes/active")
def activate(console: TheConsole, wanted: Wanted, person: Annotated[Person, needs(Role.OPERATOR)]) -> InForce:
    """Have parts judged by another recipe from now on; entered into the audit trail as your doing."""
    return InForce.model_validate(to_builtins(switch(console.home, console.database, wanted.recipe, person.name)))
