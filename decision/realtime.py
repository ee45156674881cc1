"""What lets the decision process keep its time on a busy machine: memory, priority, and garbage out of a part's way.

A station judges without any of it. Where the machine does not allow it a warning says what would.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from config.log import logger

if TYPE_CHECKING:
    from collections import Counter

_LIBC = ctypes.CDLL(None, use_errno=True)
_MCL_CURRENT = 1  # mlockall(2)
_MCL_FUTURE = 2
_MCL_ONFAULT = 4
_CAP_IPC_LOCK = 14  # capabilities(7)
_STATUS = Path("/proc/self/status")
_QUIET_NS = 10_000_000  # after a verdict, until its order is surely with the PLC
_WORTH_OBJECTS = 2_000
_MOST_OBJECTS = 50_000  # a few milliseconds to look through


def lock_memory() -> bool:
    """Keep every page of this process in memory, now and later; where that is not allowed, warn and return False.

    A page that was dropped for want of memory is read from the disk when it is touched again: milliseconds. Pages that
    were never touched stay away (MCL_ONFAULT): all of them would be 474 MB instead of 73.
    """
    limit_bytes = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    # under a finite limit, locking "later" would make an allocation fail one day
    allowed = limit_bytes == resource.RLIM_INFINITY or _capable(_CAP_IPC_LOCK)
    if allowed and _LIBC.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return True
    why = os.strerror(ctypes.get_errno()) if allowed else f"the limit is {limit_bytes / 1e6:.0f} MB"
    logger().warning("memory is not locked", why=why, needs="CAP_IPC_LOCK, or LimitMEMLOCK=infinity (ulimit -l)")
    return False


def raise_priority(priority: int) -> bool:
    """Run this thread, and those that it starts from now on, under SCHED_FIFO; 0 leaves it as it is.

    Where that is not allowed, warn and return False.
    """
    if priority == 0:
        return True
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError as error:
        needs = f"CAP_SYS_NICE, or LimitRTPRIO={priority + 1} (ulimit -r)"
        logger().warning("no real-time priority", wanted=priority, why=error.strerror, needs=needs)
        return False
    return True


def step_above() -> None:
    """Run this thread one step above the one that started it, if that is under SCHED_FIFO: what it does is shorter."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        raise_priority(os.sched_getparam(0).sched_priority + 1)


def step_down() -> None:
    """Run this thread as any other on the machine: what it does may take long, and nothing waits for it."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Garbage:
    """The search for garbage (objects that hold each other), which stops every thread, at a time of our choosing.

    From its making on nothing else searches, and what there is by then is never looked at again.
    """

    def __init__(self, counters: Counter[str]) -> None:
        """Search once; `counters` tells of searches that could not wait."""
        self._counters = counters
        self.longest_ns = 0
        gc.collect()
        gc.freeze()
        gc.disable()

    def tick(self, now_ns: int, open_parts: int, judged_ns: int) -> None:
        """Search if it is worth it, no part is open and the last verdict, of `judged_ns`, is with the PLC.

        On a line where that never is, a search is made at a bound of objects, and counted as `garbage_in_path`.
        """
        objects = gc.get_count()[0]  # made and not released since the last search
        if objects < _WORTH_OBJECTS:
            return
        if open_parts or now_ns - judged_ns < _QUIET_NS:
            if objects < _MOST_OBJECTS:
                return
            self._counters["garbage_in_path"] += 1
        began_ns = time.monotonic_ns()
        gc.collect()
        self.longest_ns = max(self.longest_ns, time.monotonic_ns() - began_ns)
        self._counters["garbage_longest_us"] = self.longest_ns // 1000


def _capable(number: int) -> bool:
    effective = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)
