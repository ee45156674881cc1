"""What an ejected-part sensor sees, matched to the parts that were at its gate. Pure.

A part that was ejected falls past the sensor `after_ms` after it was in the gate's middle, give or take `tolerance_ms`;
it may have been struck anywhere in its window. Of several parts that it can have been, it is one that was to be
ejected, and of those the nearest in time.
"""

from __future__ import annotations

from config.gates import GateSection
from decision.fates import AsCommanded, Fate, Reappeared, Unconfirmed, Unexpected
from decision.passage import Part, Passage


class Confirmation:
    """The parts that one gate's sensor can still see."""

    def __init__(self, gate: GateSection, news: list[Fate]) -> None:
        """Tell in `news`."""
        self._gate = gate
        self._news = news
        self._after_ns = round(gate.ejected.after_ms * 1e6) if gate.ejected else 0
        self._tolerance_ns = round(gate.ejected.tolerance_ms * 1e6) if gate.ejected else 0
        self._waiting: list[tuple[Part, Passage]] = []
        self._unwatched_ns = 0  # what fell before may not have been seen

    def expect(self, part: Part, passage: Passage) -> None:
        """Wait for a part whose window has begun."""
        self._waiting.append((part, passage))
        part.blind = part.blind or self._may_have_fallen(passage, self._unwatched_ns)

    def unwatched(self, until_ns: int) -> None:
        """Say that ejections may have gone unseen until now: nothing is said of parts that can have been among them."""
        self._unwatched_ns = until_ns
        for part, passage in self._waiting:
            part.blind = part.blind or self._may_have_fallen(passage, until_ns)

    def forget(self) -> None:
        """Wait for nothing more."""
        self._waiting.clear()

    def saw(self, now_ns: int, *, untracked: bool) -> Part | None:
        """Take an ejection; return the part that it was.

        Where `untracked` parts may be at the gate, an ejection that nobody waits for is theirs.
        """
        near = [(part, passage) for part, passage in self._waiting if self._in_reach(passage, now_ns)]
        if not near:
            if not untracked:
                self._news.append(Unexpected(self._gate.name, None, ""))
            return None
        part, passage = min(near, key=lambda pair: (not pair[1].ejects, pair[0].gone, self._off_ns(pair[1], now_ns)))
        self._waiting = [pair for pair in self._waiting if pair[1] is not passage]
        passage.ejected = passage.settled = True
        if part.taken_off:
            self._news.append(Reappeared(self._gate.name, part.sequence or 0, part.part_id))
        if passage.ejects:
            self._news.append(AsCommanded(self._gate.name, ejected=True))
        else:
            self._news.append(Unexpected(self._gate.name, part.sequence, part.part_id))
        return part

    def settle(self, now_ns: int) -> None:
        """Give up waiting for parts whose time is over."""
        over = [pair for pair in self._waiting if self._is_over(pair[1], now_ns)]
        if not over:
            return
        self._waiting = [pair for pair in self._waiting if not self._is_over(pair[1], now_ns)]
        for part, passage in over:
            passage.settled = True
            if self._gate.ejected is None or part.gone or part.blind or not passage.certain:
                continue
            if passage.ejects:
                self._news.append(Unconfirmed(self._gate.name, part.sequence, part.part_id))
            else:
                self._news.append(AsCommanded(self._gate.name, ejected=False))

    def _in_reach(self, passage: Passage, now_ns: int) -> bool:
        return self._may_have_fallen(passage, now_ns) and not self._is_over(passage, now_ns)

    def _may_have_fallen(self, passage: Passage, now_ns: int) -> bool:
        return (passage.begun_ns or 0) + self._after_ns - self._tolerance_ns <= now_ns

    def _is_over(self, passage: Passage, now_ns: int) -> bool:
        return passage.ended_ns is not None and now_ns > passage.ended_ns + self._after_ns + self._tolerance_ns

    def _off_ns(self, passage: Passage, now_ns: int) -> int:
        middle_ns = now_ns if passage.middle_ns is None else passage.middle_ns
        return abs(now_ns - middle_ns - self._after_ns)
