"""Which triggers a grabber has announced: no part has two verdicts, and no slot two owners. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_REMEMBERED: Final = 4096
_LAST: Final = 0xFFFF_FFFE  # what the PLC is told has 32 bits, and 0 means none


class Announced:
    """The last triggers of one process, in whatever order a camera told of them."""

    def __init__(self) -> None:
        self._sequences: OrderedDict[int, None] = OrderedDict()
        self._newest: int | None = None
        self.skipped = 0  # triggers between the newest one and the last one taken, if that is newer

    def take(self, sequence: int) -> bool:
        """Note a trigger; False for one that was announced before, or may have been, or that no part can have."""
        newest = sequence - 1 if self._newest is None else self._newest
        if not 0 <= sequence <= _LAST or sequence in self._sequences or sequence < newest - _REMEMBERED:
            return False
        self._sequences[sequence] = None
        self.skipped = max(0, sequence - newest - 1)
        self._newest = max(newest, sequence)
        if len(self._sequences) > 2 * _REMEMBERED:
            self._sequences.popitem(last=False)
        return True
