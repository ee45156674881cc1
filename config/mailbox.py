"""From a thread that blocks on a device to the service loop: a queue whose file descriptor wakes the poller."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Put from any thread, drain in the loop; `fileno()` is what `Service.watch` takes."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor that can be read while something waits."""
        return self._event

    def put(self, item: Item) -> None:
        """Add an item and wake the loop."""
        self._items.append(item)
        os.eventfd_write(self._event, 1)

    def drain(self) -> list[Item]:
        """Take all items that wait."""
        if self._event >= 0:  # else it is closed: what was put last is still there
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        """Give the descriptor back, once; nobody may put any more."""
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)
