"""What the decision process does to keep its time: in processes of their own, for priorities and locks stay."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from config.station import DecisionSection
from decision.realtime import Garbage

MS = 1_000_000
FALLBACK = """
import ctypes, os, resource, sys
from config import log
from decision import realtime
log.configure("test")
resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
if os.getuid() == 0:
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
realtime.step_above()
assert realtime.raise_priority(0)
assert not realtime.raise_priority(20)
assert not realtime.lock_memory()
assert os.sched_getscheduler(0) == os.SCHED_OTHER
bytearray(64 << 20)
"""


class Knot:
    """Something that only a search for garbage finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage() -> Iterator[tuple[Garbage, Counter[str]]]:
    counters: Counter[str] = Counter()
    yield Garbage(counters), counters
    gc.enable()
    gc.unfreeze()


def knots(count: int) -> None:
    for _ in range(count):
        Knot()


def left() -> int:
    return sum(isinstance(one, Knot) for one in gc.get_objects())


def test_what_the_machine_does_not_allow_is_said_with_what_would_allow_it() -> None:
    done = subprocess.run([sys.executable, "-c", FALLBACK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    priority, memory = (json.loads(line) for line in done.stderr.splitlines())
    assert (priority["level"], priority["wanted"]) == ("warning", 20)
    assert priority["needs"] == "CAP_SYS_NICE, or LimitRTPRIO=21 (ulimit -r)"
    assert memory["level"] == "warning"
    assert memory["why"] == "the limit is 1 MB"
    assert memory["needs"] == "CAP_IPC_LOCK, or LimitMEMLOCK=infinity (ulimit -l)"


@pytest.mark.parametrize("priority", [-1, 99, 2.5])
def test_a_priority_leaves_room_for_the_links_thread(priority: float) -> None:
    with pytest.raises(ValidationError, match="realtime_priority"):
        DecisionSection.model_validate({"realtime_priority": priority})
    assert DecisionSection(realtime_priority=98).realtime_priority == 98
    assert DecisionSection().realtime_priority == 0


def test_garbage_waits_until_no_part_is_open_and_the_last_order_is_through(
    garbage: tuple[Garbage, Counter[str]],
) -> None:
    one, counters = garbage
    knots(3000)
    assert left() == 3000
    one.tick(100 * MS, open_parts=1, judged_ns=0)
    one.tick(100 * MS, open_parts=0, judged_ns=91 * MS)
    assert left() == 3000
    one.tick(100 * MS, open_parts=0, judged_ns=90 * MS)
    assert left() == 0
    assert one.longest_ns > 0
    assert counters["garbage_in_path"] == 0


def test_a_little_garbage_is_not_worth_a_search(garbage: tuple[Garbage, Counter[str]]) -> None:
    knots(500)
    garbage[0].tick(100 * MS, open_parts=0, judged_ns=0)
    assert left() == 500


def test_where_parts_are_always_open_garbage_has_a_bound(garbage: tuple[Garbage, Counter[str]]) -> None:
    one, counters = garbage
    for _ in range(60):
        knots(1000)
        one.tick(100 * MS, open_parts=3, judged_ns=99 * MS)
        assert left() <= 50_000
    assert counters["garbage_in_path"] == 1
