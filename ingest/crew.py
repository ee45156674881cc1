"""Which worker has which frame: credit, choice, re-sending. Pure: the grabber does the sending."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Worker:
    """One inference worker as a grabber sees it."""

    capacity: int
    shares_memory: bool
    frames: set[str] = field(default_factory=set)  # sent and not answered


class Crew:
    """Frames waiting for a worker and workers with credit."""

    def __init__(self) -> None:
        self.workers: dict[bytes, Worker] = {}
        self._waiting: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def credit(self, peer: bytes, capacity: int, *, shares_memory: bool) -> None:
        """Take note of a worker's credit."""
        worker = self.workers.get(peer)
        if worker is None:
            self.workers[peer] = Worker(capacity, shares_memory)
        else:
            worker.capacity = capacity

    def wait(self, frame_id: str, *, first: bool = False) -> None:
        """Queue a frame; `first` puts it before all others, as a re-sent one is the most urgent."""
        if first:
            self._waiting.appendleft(frame_id)
        else:
            self._waiting.append(frame_id)

    def assign(self) -> tuple[bytes, str] | None:
        """Return the next frame and the least busy worker with credit, and count it as sent; None if one is missing."""
        if not self._waiting:
            return None
        peer = min(
            (peer for peer, worker in self.workers.items() if len(worker.frames) < worker.capacity),
            key=lambda peer: len(self.workers[peer].frames),
            default=None,
        )
        if peer is None:
            return None
        frame_id = self._waiting.popleft()
        self.workers[peer].frames.add(frame_id)
        return peer, frame_id

    def answered(self, peer: bytes, frame_id: str) -> None:
        """Give the worker its credit back."""
        if peer in self.workers:
            self.workers[peer].frames.discard(frame_id)

    def lose(self, peer: bytes) -> set[str]:
        """Forget a dead worker; return the frames that nobody has now."""
        lost = self.workers.pop(peer).frames
        return {frame for frame in lost if not any(frame in worker.frames for worker in self.workers.values())}

    def drop(self, frame_id: str) -> bool:
        """Take a frame off the queue; False if it was not waiting."""
        try:
            self._waiting.remove(frame_id)
        except ValueError:
            return False
        return True
