"""Records on their way to storage: sent at once, kept until storage says they are on disk, sent again until then."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.bus import Socket
    from config.messages import Recorded

_RETRY_NS = 500_000_000


class Courier:
    """Deliver records at least once over a DEALER; storage knows doubles by their record id."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._waiting: OrderedDict[str, tuple[Sequence[bytes | memoryview], int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, record_id: str, parts: Sequence[bytes | memoryview], now_ns: int) -> None:
        """Send the parts of an encoded message and keep them until `recorded`."""
        self._waiting[record_id] = (parts, now_ns)
        self._try(parts)

    def recorded(self, message: Recorded) -> list[str]:
        """Forget what is on disk; return the ids that were still waiting."""
        return [record_id for record_id in message.record_ids if self._waiting.pop(record_id, None) is not None]

    def tick(self, now_ns: int) -> int:
        """Send again what has waited too long, oldest first; return how many."""
        resent = 0
        for record_id, (parts, sent_ns) in list(self._waiting.items()):
            if now_ns - sent_ns < _RETRY_NS:
                break
            if not self._try(parts):
                break
            self._waiting[record_id] = (parts, now_ns)
            self._waiting.move_to_end(record_id)
            resent += 1
        return resent

    def drop_oldest(self) -> str:
        """Give up the record that has waited longest, where the sender's memory has an end; return its id."""
        return self._waiting.popitem(last=False)[0]

    def _try(self, parts: Sequence[bytes | memoryview]) -> bool:
        try:
            self._socket.send_multipart(list(parts), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True
