"""Which worker has which frame: credit, choice, re-sending. Pure: the grabber does the sending.

A dead worker's connection ends, and its frames are free at once (`lose`). A worker that hangs, in whatever way, says
nothing more: it is doubted once it has answered for nothing in 150 ms, or in twice what answers have taken of late
where that is longer, and other workers get its frames too. Doubt costs a second prediction of the same frame at most.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_SILENT_NS = 150_000_000
_PATIENCE = 2  # of what answers take of late
_FADING = 0.9  # the longest of late is forgotten so, answer by answer


@dataclass
class Worker:
    """One inference worker as a grabber sees it."""

    capacity: int
    shares_memory: bool
    frames: set[str] = field(default_factory=set)  # sent and not answered
    heard_ns: int = 0  # its last answer, or when it got a frame while it had none
    doubted: bool = False


class Crew:
    """Frames waiting for a worker and workers with credit."""

    def __init__(self) -> None:
        self.workers: dict[bytes, Worker] = {}
        self._waiting: deque[str] = deque()
        self._longest_ns = 0.0  # between two signs of a worker with frames, of late

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

    def assign(self, now_ns: int) -> tuple[bytes, str] | None:
        """Return the next frame and the least busy worker with credit, and count it as sent; None if one is missing.

        A doubted worker gets frames only where there is no other.
        """
        if not self._waiting:
            return None
        doubtful = all(worker.doubted for worker in self.workers.values())
        peer = min(
            (
                peer
                for peer, worker in self.workers.items()
                if len(worker.frames) < worker.capacity and worker.doubted is doubtful
            ),
            key=lambda peer: len(self.workers[peer].frames),
            default=None,
        )
        if peer is None:
            return None
        frame_id, worker = self._waiting.popleft(), self.workers[peer]
        if not worker.frames:
            worker.heard_ns = now_ns
        worker.frames.add(frame_id)
        return peer, frame_id

    def answered(self, peer: bytes, frame_id: str, now_ns: int) -> None:
        """Give the worker its credit back."""
        worker = self.workers.get(peer)
        if worker is None or frame_id not in worker.frames:
            return
        worker.frames.discard(frame_id)
        self._longest_ns = max(self._longest_ns * _FADING, now_ns - worker.heard_ns)
        worker.heard_ns, worker.doubted = now_ns, False

    def withdraw(self, peer: bytes, frame_id: str) -> None:
        """Take back what `assign` gave and was not sent."""
        self.workers[peer].frames.discard(frame_id)

    def lose(self, peer: bytes) -> set[str]:
        """Forget a dead worker; return the frames that nobody has now."""
        lost = self.workers.pop(peer).frames
        return {frame for frame in lost if not any(frame in worker.frames for worker in self.workers.values())}

    def doubt(self, now_ns: int) -> set[str]:
        """Look for workers that have fallen silent; return the frames that only such ones have.

        Nothing is returned while there is no other worker to give them to.
        """
        patience_ns = max(_SILENT_NS, _PATIENCE * self._longest_ns)
        for worker in self.workers.values():
            worker.doubted = bool(worker.frames) and now_ns - worker.heard_ns > patience_ns
        trusted = [worker for worker in self.workers.values() if not worker.doubted]
        if not trusted:
            return set()
        safe = set(self._waiting).union(*(worker.frames for worker in trusted))
        return set().union(*(worker.frames for worker in self.workers.values() if worker.doubted)) - safe

    def drop(self, frame_id: str) -> bool:
        """Take a frame off the queue; False if it was not waiting."""
        try:
            self._waiting.remove(frame_id)
        except ValueError:
            return False
        return True
