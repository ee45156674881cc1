"""Too many rejects: parts in a row, or their share of the last ones, as the recipe's alarms say. Pure.

A part counts as rejected if the gate is told to eject it: REJECT, FAULT, and REVIEW where the recipe's `review_gate`
says so. Challenge parts are bad on purpose and do not count at all. Another recipe begins anew.
"""

from __future__ import annotations

from collections import deque

from config.messages import GateCommand, Verdict
from config.recipe import Alarms, RejectRate

CONSECUTIVE, RATE = "consecutive_rejects", "reject_rate"


class Streaks:
    """The last parts at the gate, and the alarms that are on because of them."""

    def __init__(self) -> None:
        self._last: deque[bool] = deque()  # rejected or not, oldest first
        self.on: dict[str, str] = {}  # alarm -> what to say of it
        self._begin("")

    def _begin(self, recipe: str) -> None:
        self._recipe = recipe
        self._stop_line = False
        self._in_a_row = 0
        self._rejected = 0  # of the last ones
        self._last.clear()
        self.on.clear()

    @property
    def stops_line(self) -> bool:
        """Whether the PLC is to be asked to stop the line."""
        return self._stop_line and bool(self.on)

    def take(self, verdict: Verdict, alarms: Alarms) -> None:
        """Count a part, in the order of the judgements; `alarms` are those of its recipe."""
        if verdict.truth is not None and verdict.truth.challenge:
            return
        if verdict.recipe != self._recipe:
            self._begin(verdict.recipe)
        rejected = verdict.gate is not GateCommand.PASS
        self._stop_line = alarms.stop_line
        self._in_a_row = self._in_a_row + 1 if rejected else 0
        self._look_at_row(alarms.consecutive_rejects)
        self._look_at_rate(alarms.reject_rate, rejected=rejected)

    def _look_at_row(self, most: int | None) -> None:
        if most is not None and self._in_a_row >= most:
            self.on.setdefault(CONSECUTIVE, f"{most} parts in a row were rejected; recipe {self._recipe}")
        else:
            self.on.pop(CONSECUTIVE, None)

    def _look_at_rate(self, rate: RejectRate | None, *, rejected: bool) -> None:
        self._last.append(rejected)
        self._rejected += rejected
        while len(self._last) > (rate.over_parts if rate else 0):
            self._rejected -= self._last.popleft()
        if rate is None:
            self.on.pop(RATE, None)
            return
        share = self._rejected / len(self._last)
        if len(self._last) == rate.over_parts and share > rate.above:
            self.on.setdefault(
                RATE, f"{self._rejected} of {len(self._last)} parts were rejected; recipe {self._recipe}"
            )
        elif share < rate.clear_below:
            self.on.pop(RATE, None)
