"""Drift: a thread of the storage process that watches brightness and focus of images, so that people hear of it.

Of each camera and product that had images in the last whole hour, the hours of a week make a control chart
(`storage/query/charts.py`). While the EWMA of the last hour lies beyond its limits, `problem` says of what and how far;
what stays as it is becomes the baseline within that week.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import numpy as np
from sqlalchemy import URL, Connection, select

from config import shifts
from config.errors import StoreError
from config.log import Condition
from storage.query import charts, trends
from storage.query.charts import Subgroups
from storage.query.service import QueryService
from storage.query.trends import Chosen, Clock, Measure, Period
from storage.schema import appearance

_HOUR = timedelta(hours=1)
_LEARNT = timedelta(days=7)
_EVERY_S = 300.0
_LOOK_S = 1.0
_CLOCK = Clock(lambda moment: moment.astimezone(UTC), shifts.DEFAULT)


class Drift(Thread):
    """Watch what images of `station` look like, in the database at `url`."""

    def __init__(self, url: URL, station: str, counters: Counter[str]) -> None:
        super().__init__(name="drift", daemon=True)
        self._query = QueryService(url)
        self._station = station
        self._failed = Condition("drift_not_watched", counters)
        self._stopping = Event()
        self._due_s = time.monotonic() + _EVERY_S
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Say what has drifted; None while nothing has."""
        return self._problem

    def stop(self, timeout_s: float) -> None:
        """End."""
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        """Look every five minutes."""
        while not self._stopping.wait(_LOOK_S):
            if time.monotonic() < self._due_s:
                continue
            self._due_s = time.monotonic() + _EVERY_S
            try:
                with self._query.connected() as connection:
                    self._problem = "; ".join(drifted(connection, self._station, datetime.now(UTC))) or None
            except StoreError as error:
                self._failed.occur(error=str(error))
            else:
                self._failed.end()
        self._query.close()


def drifted(connection: Connection, station: str, now: datetime) -> Iterator[str]:
    """Yield in words what has drifted by the last whole hour before `now`."""
    ended = now.replace(minute=0, second=0, microsecond=0)
    last = (appearance.c.hour == ended - _HOUR, appearance.c.station == station)
    names = (appearance.c.camera, appearance.c.product)
    for camera, product in connection.execute(select(*names).distinct().where(*last).order_by(*names)).all():
        chosen = Chosen(station=station, camera=camera, product=product, since=ended - _LEARNT, until=ended)
        for measure in (Measure.BRIGHTNESS, Measure.FOCUS):
            groups = trends.series(connection, chosen, measure, Period.HOUR, _CLOCK).subgroups
            found = beyond(groups)
            if found is not None:
                value, low, high = found
                yield f"{camera}: {measure} of {product} is {value:.1f}, and was {low:.1f} to {high:.1f}"


def beyond(hours: Subgroups) -> tuple[float, float, float] | None:
    """Return the EWMA of the last hour and its limits where it lies beyond them; else None, as where little is known.

    What comes and goes with the day is part of a baseline of 25 hours: its whole scatter makes the limits, not that
    of neighbours alone.
    """
    baseline, _ = charts.stable(hours)
    told = charts.limits(hours, baseline)
    if told is None or len(hours) <= charts.ENOUGH:
        return None
    levels = hours.levels
    whole = float(np.std(levels[baseline], ddof=1))
    averages, spreads = charts.ewma(levels, np.maximum(told.deviations, whole), told.middle)
    reach = charts.EWMA_LIMIT * float(spreads[-1])
    value = float(averages[-1])
    return (value, told.middle - reach, told.middle + reach) if abs(value - told.middle) > reach else None
