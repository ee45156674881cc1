"""How the console's process keeps garbage collection out of the way of its answers."""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _OLD = 700, 10, 1_000  # the first two are Python's own: collections of 1 ms and 5 ms


def settle() -> None:
    """Leave what is loaded by now out of every collection, and go through the rest a hundred times less often.

    A full collection takes 60 ms, in the midst of an answer; what becomes garbage here does so while it is young.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
