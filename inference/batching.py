"""Batches: which of the waiting frames a worker runs next, and which it gives up. Pure: the time is an argument.

Frames that can share a batch (of one bundle and size) wait in one queue, by deadline, whatever camera they are from;
the queue with the nearest deadline goes first. How large its batch is follows from what each size was measured to take:
the size that lets most of what waits keep its deadline, of these the one that takes the least time for a frame. A batch
may be larger than what waits, and filled up with anything, where that is the quickest.

A frame that cannot keep its deadline any more is given up at once. A camera that lost one goes first as soon as it has
another frame, and while it has none no batch is begun that would cost it the next: so no camera starves beside others
with more frames, nearer deadlines or a quicker bundle. Only a batch that was begun is never cut short.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_FOLLOW = 0.125  # share of each new measurement in the pace (exponential smoothing)
_STALL = 4.0  # one run that took longer than this many times what was expected tells no more than that
_OWED_NS = 1_000_000_000  # a camera that sends nothing for so long is owed nothing any more


class Costs:
    """What a batch of each bucket takes: as measured once in turns, times a pace that follows the machine."""

    def __init__(self, measured_ns: Mapping[int, int]) -> None:
        """Take the time of each bucket, rising sizes, each above zero."""
        self._measured_ns = dict(sorted(measured_ns.items()))
        self._pace = 1.0
        self.quickest = min(self._measured_ns, key=lambda bucket: (self._measured_ns[bucket], bucket))

    @property
    def buckets(self) -> tuple[int, ...]:
        """Return the sizes that a batch may have, rising."""
        return tuple(self._measured_ns)

    @property
    def least_ns(self) -> int:
        """Return what the quickest batch takes."""
        return self.of(self.quickest)

    def of(self, bucket: int) -> int:
        """Return what a batch of this size will take, in ns."""
        return max(1, round(self._measured_ns[bucket] * self._pace))

    def ran(self, bucket: int, took_ns: int) -> None:
        """Take note of how long a batch has taken."""
        pace = min(took_ns / self._measured_ns[bucket], _STALL * self._pace)
        self._pace += _FOLLOW * (pace - self._pace)

    def anew(self) -> Costs:
        """Return the same costs for frames of another size: their pace is their own."""
        return Costs(self._measured_ns)


@dataclass(frozen=True)
class Batch(Generic[Item]):
    """What to run now: one to `bucket` items of the queue `key`."""

    key: Hashable
    bucket: int
    items: tuple[Item, ...]


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Item]):
    deadline_ns: int
    camera: str
    came_ns: int
    item: Item


class _Queue(Generic[Item]):
    """What can share a batch, by deadline; of equal ones the first come goes first."""

    def __init__(self, key: Hashable, costs: Costs) -> None:
        self.key = key
        self.costs = costs
        self.waiting: list[_Waiting[Item]] = []

    def put(self, waiting: _Waiting[Item]) -> None:
        bisect.insort(self.waiting, waiting, key=_deadline_ns)

    def begin_by_ns(self) -> int:
        """Return when the most urgent batch must begin at the latest."""
        return self.waiting[0].deadline_ns - self.costs.least_ns

    def hopeless(self, now_ns: int) -> list[_Waiting[Item]]:
        """Take out what cannot keep its deadline, were it begun now and alone."""
        count = bisect.bisect_left(self.waiting, now_ns + self.costs.least_ns, key=_deadline_ns)
        hopeless, self.waiting = self.waiting[:count], self.waiting[count:]
        return hopeless

    def remove(self, taken: Sequence[_Waiting[Item]]) -> None:
        ids = {id(each) for each in taken}
        self.waiting = [each for each in self.waiting if id(each) not in ids]


@dataclass(frozen=True)
class _Owed:
    """That a camera has lost a frame."""

    since_ns: int
    slack_ns: int  # from such a frame's arrival to the moment when it must be begun


class Batcher(Generic[Item]):
    """The frames that wait in one worker."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue[Item]] = {}
        self._owed: dict[str, _Owed] = {}  # by camera, the longest owed first

    def __len__(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues.values())

    def put(self, key: Hashable, costs: Costs, camera: str, deadline_ns: int, now_ns: int, item: Item) -> None:
        """Let an item wait in the queue `key`, whose batches take `costs`, for one that ends by the deadline."""
        queue = self._queues.get(key) or self._queues.setdefault(key, _Queue(key, costs))
        queue.put(_Waiting(deadline_ns, camera, now_ns, item))

    def take(self, now_ns: int) -> tuple[Batch[Item] | None, list[Item]]:
        """Take out the batch to run now, None if nothing waits, and the items that are given up.

        Where nothing can keep its deadline by what it is said to take, one item whose deadline has not come is run all
        the same: else a wrong measurement would never be corrected.
        """
        if len(self) == 1 and not self._owed:
            (queue,) = self._queues.values()
            if queue.begin_by_ns() >= now_ns:  # one alone and in time: all below would come to this, later
                self._queues = {}
                return Batch(queue.key, queue.costs.quickest, (queue.waiting[0].item,)), []
        lost = [(queue, each) for queue in self._queues.values() for each in queue.hopeless(now_ns)]
        for queue, each in lost:
            self._owed[each.camera] = _Owed(now_ns, each.deadline_ns - each.came_ns - queue.costs.least_ns)
        self._owed = {camera: owed for camera, owed in self._owed.items() if now_ns - owed.since_ns < _OWED_NS}
        waiting = [queue for queue in self._queues.values() if queue.waiting]
        batch = None
        if waiting:
            batch = self._choose(waiting, now_ns)
        elif any(each.deadline_ns > now_ns for _, each in lost):
            queue, tried = max(lost, key=lambda one: one[1].deadline_ns)
            lost.remove((queue, tried))
            self._owed.pop(tried.camera, None)
            batch = Batch(queue.key, queue.costs.buckets[0], (tried.item,))
        self._queues = {key: queue for key, queue in self._queues.items() if queue.waiting}
        return batch, [each.item for _, each in lost]

    def _choose(self, queues: Sequence[_Queue[Item]], now_ns: int) -> Batch[Item]:
        queue, line = self._line(queues)
        bucket = self._bucket(queue, line, queues, now_ns)
        end_ns = now_ns + queue.costs.of(bucket)
        taken = [each for each in line if each.deadline_ns >= end_ns][:bucket]
        queue.remove(taken)
        for each in taken:
            self._owed.pop(each.camera, None)
        return Batch(queue.key, bucket, tuple(each.item for each in taken))

    def _line(self, queues: Sequence[_Queue[Item]]) -> tuple[_Queue[Item], list[_Waiting[Item]]]:
        """Return the queue whose turn it is and its frames: one of each camera that is owed one, then by deadline."""
        by_deadline = sorted(queues, key=lambda queue: queue.waiting[0].deadline_ns)
        for camera in self._owed:
            for queue in by_deadline:
                if any(each.camera == camera for each in queue.waiting):
                    return queue, self._turns(queue.waiting)
        return by_deadline[0], by_deadline[0].waiting

    def _turns(self, waiting: Sequence[_Waiting[Item]]) -> list[_Waiting[Item]]:
        firsts = [next((each for each in waiting if each.camera == camera), None) for camera in self._owed]
        ahead = [each for each in firsts if each is not None]
        ids = {id(each) for each in ahead}
        return [*ahead, *(each for each in waiting if id(each) not in ids)]

    def _bucket(
        self, queue: _Queue[Item], line: Sequence[_Waiting[Item]], queues: Sequence[_Queue[Item]], now_ns: int
    ) -> int:
        costs = queue.costs
        others = [other.begin_by_ns() for other in queues if other is not queue]
        others = [begin_by_ns for begin_by_ns in others if begin_by_ns >= now_ns + costs.least_ns]
        latest_ns = self._latest_ns(line, costs, now_ns)

        def worth(bucket: int) -> tuple[int, float, int]:
            took_ns = costs.of(bucket)
            ends_ns = range(now_ns + took_ns, now_ns + len(line) * took_ns + 1, took_ns)
            kept = sum(each.deadline_ns >= ends_ns[place // bucket] for place, each in enumerate(line))
            kept -= sum(begin_by_ns < now_ns + took_ns for begin_by_ns in others)
            return kept, -took_ns / min(bucket, len(line)), -bucket

        allowed = [bucket for bucket in costs.buckets if now_ns + costs.of(bucket) <= latest_ns]
        return max(allowed, key=worth)

    def _latest_ns(self, line: Sequence[_Waiting[Item]], costs: Costs, now_ns: int) -> int:
        """Return by when the batch must have ended so that no camera loses again that is owed a frame."""
        waiting = {each.camera for each in line}
        slacks = [owed.slack_ns for camera, owed in self._owed.items() if camera not in waiting]
        latest = [now_ns + slack_ns for slack_ns in slacks if slack_ns >= costs.least_ns]
        if line[0].camera in self._owed:
            latest.append(line[0].deadline_ns)
        return min(latest, default=sys.maxsize)


def _deadline_ns(waiting: _Waiting[Item]) -> int:
    return waiting.deadline_ns
