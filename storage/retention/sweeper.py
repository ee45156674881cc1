"""The sweeper: a thread of the storage process that keeps what is stored within its bounds (`plan.py`).

It sweeps every hour, and at once when a disk runs short. It never holds up the line: it has a connection of its own,
waits for no lock where others would wait behind it, and what it has in hand when the process ends is rolled back.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import URL

from config.errors import StoreError
from config.log import Condition, logger
from config.station import RetentionSection
from storage.retention.sweep import Sweep, Swept
from storage.store import Store

_FIRST_S = 300.0  # the start has enough to do
_EVERY_S = 3600.0
_LOOK_S = 2.0  # at the disks
_AGAIN_S = 60.0  # while a disk is short, or after a sweep that failed


class Sweeper(Thread):
    """Sweep the parts of `station` in the database at `url`, and its images in `store` if there is one."""

    def __init__(
        self,
        url: URL,
        home: Path,
        station: str,
        keep: RetentionSection,
        store: Store | None,
        counters: Counter[str],
    ) -> None:
        super().__init__(name="retention", daemon=True)
        self._sweep = Sweep(url, home, station, keep, store, counters)
        self._failed = Condition("not_swept", counters)
        self._left = Condition("not_all_swept", counters)
        self._short = Condition("space_short", counters)
        self._stopping = Event()
        self._began_at, self._began_s = datetime.now(UTC), time.monotonic()
        self._due_s = self._began_s + _FIRST_S
        self._problem: str | None = None
        self._of_disk = False  # then it is over as soon as the disk has room, and not with the next sweep

    @property
    def problem(self) -> str | None:
        """Say why space stays short; None while all is well."""
        return self._problem

    def stop(self, timeout_s: float) -> None:
        """End, whatever is in hand."""
        self._stopping.set()
        self._sweep.stop()
        self.join(timeout_s)

    def run(self) -> None:
        """Sweep when it is time."""
        again_s = time.monotonic()
        while not self._stopping.wait(_LOOK_S):
            is_due, shortage = time.monotonic() >= self._due_s, self._shortage()
            if is_due or (shortage and time.monotonic() >= again_s):
                self._once(shortage, is_due=is_due)
                again_s = time.monotonic() + _AGAIN_S
            elif self._of_disk and not shortage:
                self._judge(Swept())

    def _shortage(self) -> str | None:
        try:
            return self._sweep.shortage()
        except StoreError as error:  # of the image store's disk
            self._failed.occur(error=str(error))
            return None

    def _once(self, shortage: str | None, *, is_due: bool) -> None:
        begin_s = time.monotonic()
        try:
            swept = self._sweep.run(self._now())
        except StoreError as error:
            if not self._stopping.is_set():
                self._failed.occur(error=str(error))
            if shortage:  # which may well be why
                self._judge(Swept(problem=f"{shortage}, and nothing can be removed now: {error}", of_disk=True))
            if is_due:
                self._due_s = time.monotonic() + _AGAIN_S
            return
        self._failed.end()
        self._due_s = time.monotonic() + _EVERY_S
        self._judge(swept)
        if swept.left:
            self._left.occur(left=swept.left)
        else:
            self._left.end()
        if is_due or any(swept.counts().values()):
            lasted_s = round(time.monotonic() - begin_s, 3)
            logger().info("swept", **swept.counts(), partitions=len(swept.removed), lasted_s=lasted_s)

    def _judge(self, swept: Swept) -> None:
        """Keep in mind, and say, whether space stays short."""
        self._problem, self._of_disk = swept.problem, swept.of_disk
        if swept.problem:
            self._short.occur(reason=swept.problem)
        else:
            self._short.end()

    def _now(self) -> datetime:
        """Return the time by a clock that was not put forward since the start: else everything would be old at once."""
        return min(datetime.now(UTC), self._began_at + timedelta(seconds=time.monotonic() - self._began_s))
