"""Sign-ins that fail: who tries too often waits, longer each time. Pure; memory is bounded."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

_REMEMBERED = 10_000  # names and addresses
_FIRST_S = 2.0
_LONGEST_S = 300.0
_FORGOTTEN_S = 3600.0  # after the last failure


class _Tries(NamedTuple):
    failures: int
    last_s: float


class Throttle:
    """Failures by key; the first `free` ones of a key cost nothing. Times are monotonic, in seconds."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> float:
        """Return for how long `key` must not try; 0 if it may."""
        tries = self._tries.get(key)
        if tries is None or tries.failures < self._free:
            return 0.0
        pause_s = min(_FIRST_S * math.ldexp(1.0, min(tries.failures - self._free, 30)), _LONGEST_S)
        return max(0.0, tries.last_s + pause_s - now_s)

    def fail(self, key: str, now_s: float) -> bool:
        """Note a failure; tell whether it is the one from which on `key` has to wait."""
        tries = self._tries.pop(key, None)
        failures = 1 if tries is None or now_s - tries.last_s > _FORGOTTEN_S else tries.failures + 1
        self._tries[key] = _Tries(failures, now_s)
        while len(self._tries) > _REMEMBERED:
            self._tries.popitem(last=False)
        return failures == self._free

    def forgive(self, key: str) -> None:
        """Take the last failure of `key` back."""
        tries = self._tries.get(key)
        if tries is not None:
            self._tries[key] = tries._replace(failures=tries.failures - 1)

    def forget(self, key: str) -> None:
        """Forget all failures of `key`."""
        self._tries.pop(key, None)

    def __len__(self) -> int:
        return len(self._tries)
