"""What `andon up` puts on record: the recipes and bundles that are judged by, and when the station starts and stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from config import recipe
from config.errors import StoreError
from deploy import stations
from inference.bundle import Bundle
from inference.keys import TrustStore
from storage import audit
from storage.library import BundleFile, Library

if TYPE_CHECKING:
    from config.home import Home, Run
    from config.station import Station

_WHO = "supervisor"
_CONNECT = {"connect_timeout": 1, "application_name": "andon up", "options": "-c statement_timeout=1000"}


def register(home: Home, url: str) -> list[str]:
    """Put the station's recipes and bundles into the library; return warnings for people.

    Raise StoreError where the database does not answer: doing it again is safe.
    """
    recipes = home.read_recipes()
    trust = TrustStore.load(extra=stations.DEMO_KEYS)
    bundles = {}
    for path in {view.bundle for one in recipes.values() for view in one.views.values()}:
        bundle = Bundle.open(path, trust)
        bundles[bundle.digest] = BundleFile(bundle.manifest.name, path)
    return Library(url, home.path).register(_WHO, recipes, bundles)


def started(home: Home, station: Station, run: Run, url: str) -> None:
    """Enter into the audit trail that the station starts, and by which recipes it judges; raise StoreError."""
    digests = {name: recipe.digest(recipe.content(one)) for name, one in home.read_recipes().items()}
    _enter(home, url, "station.started", station.station, {"run": run.run_id, "recipes": digests})


def stopped(home: Home, station: Station, run: Run, url: str) -> None:
    """Enter into the audit trail that the station stops; raise StoreError, within about a second."""
    _enter(home, url, "station.stopped", station.station, {"run": run.run_id})


def _enter(home: Home, url: str, action: str, subject: str, after: dict[str, object]) -> None:
    engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
    try:
        with engine.connect() as connection:
            with connection.begin():
                head = audit.append(connection, _WHO, action, subject, None, after)
            audit.Anchor(home.path).note(connection, head)
    except SQLAlchemyError as error:
        lines = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise StoreError(f"PostgreSQL: {lines[0] if lines else type(error).__name__}") from error
