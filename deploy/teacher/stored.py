"""How the works reach what the station has stored, and by what it judges."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from deploy import stations
from inference.bundle import Bundle
from inference.keys import TrustStore
from storage import store
from storage.addresses import database_url
from storage.query.service import QueryService

if TYPE_CHECKING:
    from pathlib import Path

    from config.home import Home

BEFORE_CAMERAS_KNOW = timedelta(seconds=2)  # of a wish: parts before that were not asked for


def stored(home: Home) -> QueryService:
    """Return the questions to the station's database and image store."""
    station = home.read_station()
    return QueryService(database_url(), store.connect(station.storage.images, station.station))


def opened(path: Path) -> Bundle:
    """Open a bundle that this station trusts; raise BundleError."""
    return Bundle.open(path, TrustStore.load(extra=stations.DEMO_KEYS))
