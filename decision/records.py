"""What storage is to keep: in the outbox before anybody acts on it, there until storage has it on disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from config.courier import Courier
from config.log import Condition
from config.messages import Event, GateReport, Recorded, Verdict, decode, encode
from decision.outbox import Outbox, OutboxFullError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from config.bus import Socket
    from config.messages import AnyMessage, Buffer

_ALMOST_FULL = 0.9

Record = Verdict | GateReport | Event


class Records:
    """Verdicts, gate reports and events of one decision stage, delivered to storage at least once."""

    def __init__(self, path: Path, storage: Socket, counters: Counter[str]) -> None:
        """Open the outbox at `path`; raise StoreError where it cannot be used."""
        self._outbox = Outbox(path)
        self._courier = Courier(storage)
        self._full = Condition("outbox_full", counters)

    @property
    def almost_full(self) -> bool:
        """Whether nothing more should be begun: what is left is for what must be told."""
        return self._outbox.fill > _ALMOST_FULL

    def has_room(self) -> bool:
        """Tell whether verdicts can be kept, and the log when that begins and ends."""
        if self.almost_full:
            self._full.occur(fill=round(self._outbox.fill, 2))
            return False
        self._full.end()
        return True

    def keep(self, record: Record, payload: Sequence[Buffer] = ()) -> list[bytes | memoryview]:
        """Keep a record and return it encoded, for `send`; raise OutboxFullError where there is no room at all."""
        parts = encode(record, payload)
        self._outbox.append(record.record_id, parts)
        return parts

    def send(self, record_id: str, parts: Sequence[bytes | memoryview]) -> None:
        """Send what was kept, again and again until storage has it."""
        self._courier.send(record_id, parts, time.monotonic_ns())

    def deliver(self, record: Record) -> bool:
        """Keep a record and send it; False where there is no room at all, which is logged and counted."""
        try:
            parts = self.keep(record)
        except OutboxFullError:
            self._full.occur(fill=1.0)
            return False
        self.send(record.record_id, parts)
        return True

    def recorded(self, message: Recorded) -> None:
        """Let go of what storage has on disk."""
        for record_id in self._courier.recorded(message):
            self._outbox.confirm(record_id)

    def tick(self, now_ns: int) -> None:
        """Send again what has waited too long."""
        self._courier.tick(now_ns)

    def recover(self) -> Iterator[tuple[AnyMessage, bool]]:
        """Yield what a former process kept and whether storage may lack it, oldest first; that is sent again."""
        for record_id, parts, waiting in self._outbox.recover():
            if waiting:
                self.send(record_id, parts)
            yield decode(parts)[0], waiting
