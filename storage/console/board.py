"""What the live page shows that only PostgreSQL knows: the present shift's parts, and who has seen which alarm.

Asked every few seconds at most, whatever the number of browsers, and only while one follows; the line never waits.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from config.errors import StoreError
from config.shifts import present
from config.station import Station
from storage.alarms import Alarms
from storage.console.live import LiveFeed
from storage.console.models import Board, local
from storage.query.service import QueryService

_LOOK_S = 3.0


class Keeper:
    """Keep the board of `feed` up to date."""

    def __init__(self, station: Station, feed: LiveFeed, query: QueryService, alarms: Alarms) -> None:
        self._station = station
        self._feed = feed
        self._query = query
        self._alarms = alarms

    async def run(self) -> None:
        """Look until cancelled; while PostgreSQL is away the last board stays, and says since when."""
        last: object = None
        while True:
            due = (self._feed.changes, present(self._station.shifts, local(datetime.now(UTC))), self._feed.alarms)
            if self._feed.browsers and due != last:
                try:
                    self._feed.post(await asyncio.to_thread(self._read))
                    last = due
                except StoreError:
                    pass  # the backlog on the page says so; what was counted before stays
            await asyncio.sleep(_LOOK_S)

    def _read(self) -> Board:
        now = local(datetime.now(UTC))
        shift = present(self._station.shifts, now)
        return Board(
            shift=shift.name,
            began=shift.began,
            ends=shift.ends,
            counted=now,
            products=self._query.by_product(self._station.station, shift.began),
            acknowledged=tuple(self._alarms.of([alarm.event_id for alarm in self._feed.alarms]).values()),
        )
