"""What every answer of the console is made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import URL

from config.home import Home
from config.station import Station
from storage.console.live import LiveFeed
from storage.live import LiveImages
from storage.query import QueryService


@dataclass(frozen=True)
class Console:
    """One station's console."""

    home: Home
    database: URL
    station: Station
    products: tuple[str, ...]
    feed: LiveFeed
    live: LiveImages
    query: QueryService
    counters: Counter[str]

    @property
    def private(self) -> bool:
        """Whether only this machine reaches it."""
        host = self.station.console.host
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def _console(request: Request) -> Console:
    console: Console = request.app.state.console
    return console


TheConsole = Annotated[Console, Depends(_console)]
