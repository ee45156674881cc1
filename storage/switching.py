"""A person switches the station to another recipe: done by the decision stage, entered into the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from config import activation
from config.messages import Recipes
from storage import audit
from storage.failures import translated

if TYPE_CHECKING:
    from config.home import Home

_CONNECT = {"connect_timeout": 3, "application_name": "andon recipe", "options": "-c statement_timeout=10000"}


def switch(home: Home, url: URL | str, recipe: str, by: str) -> Recipes:
    """Have parts judged by `recipe` from now on, and enter who wanted it into the audit trail.

    The entry is committed once the station has switched; where there can be none, the station is not asked. Raise
    InputError that says why not, ServiceError where the station and StoreError where the database does not answer.
    """
    audit.printable("by", by, audit.LONGEST_NAME)
    before = activation.recipes(home)
    if before.active == recipe:
        return before
    engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
    with translated(), engine.connect() as connection:
        with connection.begin():
            after = _said(before, recipe)
            head = audit.append(connection, by, "recipe.activated", recipe, _said(before, before.active), after)
            now = activation.activate(home, recipe, by)
        audit.Anchor(Path(home.path)).note(connection, head)
    return now


def _said(recipes: Recipes, name: str | None) -> dict[str, object]:
    found = next((one for one in recipes.recipes if one.name == name), None)
    return {"recipe": name, **({"version": found.version, "digest": found.digest} if found else {})}
