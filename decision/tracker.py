"""Parts between the cameras and the gates that the station drives itself: a shift register over the belt's way.

Pure: ways and times are arguments. A gate leaves its rest for one part, in that part's window, or not at all:

- what a part gets is settled when its first window begins: a command that comes later is a miss and acts on nothing;
- a window that could not be begun in its first quarter is a miss as well, so that no gate moves amid a part;
- a gate that rests at eject opens for a part only if no window of a part that has not earned to pass touches its own;
- parts whose way is not known (triggered before the way was, or while it was lost) are left to the gates at rest, and
  so is whatever could be within a window of them.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Sequence

from config.gates import GateSection
from config.messages import GateCommand, Judgement
from decision.confirmation import Confirmation
from decision.fates import Accepted, Crowded, Exposed, Fate, Finished, Lost, Missed, Reappeared, Stranger, TakenOff
from decision.passage import Levels, Part, Passage

_FINISHED = 4096  # parts remembered after their end, so that a late or repeated word of them changes nothing
_QUARTER = 0.25


class Tracker:
    """Follow parts to the gates; `move` first, then `wanted` says how the outputs must stand now."""

    def __init__(self, gates: Sequence[GateSection]) -> None:
        """Take the gates, by rising distance."""
        self._gates = tuple(gates)
        self._widest_mm = max(gate.window_mm for gate in gates)
        self.precision_mm = _QUARTER * min(gate.window_mm for gate in gates)  # how well ways must be known
        self._zone_mm = min(
            gate.part.distance_mm - gate.part.tolerance_mm if gate.part else gate.start_mm for gate in gates
        )
        self._parts: list[Part] = []  # by their way
        self._known: dict[int, Part] = {}
        self._unordered: OrderedDict[int, Part] = OrderedDict()  # finished, and no command has come yet
        self._done: OrderedDict[int, None] = OrderedDict()
        self._levels = [Levels() for _ in gates]
        self._news: list[Fate] = []
        self._confirmations = [Confirmation(gate, self._news) for gate in gates]
        self._way_mm = -math.inf
        self._trusted_mm = math.inf
        self._able = True
        self._was_blind = False

    def events(self) -> list[Fate]:
        """Return what has happened since the last call."""
        news = self._news[:]
        self._news.clear()
        return news

    def expect(self, sequence: int, part_id: str, low_mm: float, high_mm: float) -> None:
        """Announce a part by the way of the belt at its trigger; a second announcement changes nothing."""
        if sequence in self._known or sequence in self._done or sequence in self._unordered:
            return
        part = Part(sequence, part_id, low_mm, high_mm, [Passage() for _ in self._gates])
        self._known[sequence] = part
        if low_mm < self._trusted_mm or high_mm > low_mm:
            self._miss(part, "where it is on the belt is not known")
        if high_mm >= self._trusted_mm - self._widest_mm and math.isfinite(low_mm):
            insort(self._parts, part, key=lambda one: one.low_mm)
        else:
            self._finish(part)

    def order(self, sequence: int, part_id: str, command: GateCommand, verdict: Judgement, now_ns: int) -> None:
        """Take the command for a part: answered once, by Accepted or by Missed; the first one counts."""
        if sequence in self._done:
            return
        if sequence in self._unordered:
            late = self._unordered.pop(sequence)
            late.command, late.verdict = command, verdict
            self._tell_finished(late)
            return
        part = self._known.get(sequence)
        if part is None:
            part = Part(sequence, part_id, -math.inf, -math.inf, [], command, verdict)
            self._miss(part, "it was triggered before the gates were followed")
            self._tell_finished(part)
        elif part.command is None:
            part.command, part.verdict = command, verdict
            if part.barred is None:
                self._news.append(Accepted(sequence, part.part_id, now_ns))

    def able(self, able: bool) -> None:  # noqa: FBT001 - it is or is not
        """Say whether somebody judges; gates fall back to rest at once when nobody does."""
        self._able = able
        if not able:
            for part in self._parts:
                if any(_under_way(passage) and passage.acts for passage in part.passages):
                    self._miss(part, "nobody judges")

    def move(self, way_mm: float, now_ns: int) -> None:
        """Follow the belt; running backwards changes nothing here, and must be a little only."""
        if self._trusted_mm == math.inf:
            self._trust_from(way_mm)
        before_mm, self._way_mm = self._way_mm, max(way_mm, self._way_mm)
        if self._was_blind:
            self._see_again(before_mm)
        for part in self._parts:
            if self._way_mm < part.low_mm + self._zone_mm:
                break
            for index, gate in enumerate(self._gates):
                self._follow(part, index, gate, now_ns)
        for confirmation in self._confirmations:
            confirmation.settle(now_ns)
        self._drop_finished()

    def lose(self, why: str, way_mm: float) -> None:
        """Give up all parts under way: the gates are at rest for them, and for what may be near them."""
        lost = [part for part in self._parts if part.announced]
        self._news.append(Lost(why, len(lost)))
        for confirmation in self._confirmations:
            confirmation.forget()
        for part in lost:
            if not all(passage.ended_ns for passage in part.passages):
                self._miss(part, why)
            self._finish(part)
        self._parts.clear()
        self._way_mm = way_mm
        self._levels = [Levels() for _ in self._gates]
        self._trust_from(way_mm)

    def blind(self) -> None:
        """Say that outputs and sensors are out of reach, until the next `move`."""
        self._was_blind = True
        for levels in self._levels:
            levels.add(self._way_mm, None)

    def wanted(self) -> tuple[bool, ...]:
        """Return how each gate's output must stand now; False is at rest."""
        return tuple(self._able and self._leaves_rest(index, gate) for index, gate in enumerate(self._gates))

    def written(self, outputs: Sequence[bool], way_mm: float) -> None:
        """Say that the coupler has taken outputs, when the belt was at a way."""
        for levels, on in zip(self._levels, outputs, strict=True):
            levels.add(way_mm, on)

    def next_mm(self) -> float | None:
        """Return the next way at which an output may have to change."""
        found = math.inf
        for part in self._parts:
            if part.low_mm + self._gates[0].start_mm > found:
                break
            for gate in self._gates:
                for edge_mm in (part.low_mm + gate.start_mm, part.high_mm + gate.end_mm):
                    if self._way_mm < edge_mm < found:
                        found = edge_mm
        return found if math.isfinite(found) else None

    def part_seen(self, index: int, low_mm: float, high_mm: float) -> None:
        """Take the part sensor's word: a part passed it between two ways (equal where known)."""
        gate = self._gates[index]
        if gate.part is None:
            return
        low_mm, high_mm = low_mm - gate.part.distance_mm, high_mm - gate.part.distance_mm
        near = self._unseen(index, low_mm, high_mm, gate.part.tolerance_mm)
        if near:
            part = min(near, key=lambda part: _off_mm(part, (low_mm + high_mm) / 2))
            part.passages[index].seen = True
            if part.taken_off:
                self._news.append(Reappeared(gate.name, part.sequence or 0, part.part_id))
            return
        stranger = Part(None, "", low_mm, high_mm, [Passage() for _ in self._gates], barred="no camera has seen it")
        stranger.passages[index].seen = True
        insort(self._parts, stranger, key=lambda one: one.low_mm)
        if low_mm >= self._trusted_mm:
            self._news.append(Stranger(gate.name))

    def part_unwatched(self, index: int, low_mm: float, high_mm: float, unread_ns: int) -> None:
        """Say that parts may have passed the part sensor unseen between two ways; told after what was seen there."""
        gate = self._gates[index]
        if gate.part is None:
            return
        low_mm, high_mm = low_mm - gate.part.distance_mm, high_mm - gate.part.distance_mm
        for part in self._unseen(index, low_mm, high_mm, gate.part.tolerance_mm):
            if part.announced and not part.gone:
                part.blind = True
                self._miss(part, f"the inputs were not read for {unread_ns / 1e6:.0f} ms while it passed its sensor")

    def ejected_seen(self, index: int, now_ns: int) -> None:
        """Take the ejected-part sensor's word: a part was ejected here."""
        untracked = self._way_mm < self._trusted_mm + self._gates[index].end_mm
        part = self._confirmations[index].saw(now_ns, untracked=untracked)
        if part is not None:
            self._finish(part)

    def ejected_unwatched(self, index: int, until_ns: int) -> None:
        """Say that ejections may have gone unseen until now; told after what was seen."""
        self._confirmations[index].unwatched(until_ns)

    def unwritten(self, since_mm: float) -> None:
        """Say that the coupler has heard nothing for so long that from a way on its outputs may be off."""
        for levels in self._levels:
            levels.add(since_mm, None)

    def _unseen(self, index: int, low_mm: float, high_mm: float, tolerance_mm: float) -> list[Part]:
        """Return the parts that a gate's sensor has not seen and that can have been at it."""
        middle_mm, reach_mm = (low_mm + high_mm) / 2, (high_mm - low_mm) / 2 + tolerance_mm
        return [
            part
            for part in self._parts
            if not part.passages[index].seen and _off_mm(part, middle_mm) <= reach_mm + (part.high_mm - part.low_mm) / 2
        ]

    def _trust_from(self, way_mm: float) -> None:
        """Know nothing of what is on the belt before a way: the first part that can pass is a window behind it."""
        self._trusted_mm = way_mm + self._widest_mm

    def _see_again(self, since_mm: float) -> None:
        """Give up what was at the gates while they were out of reach, and what is near parts that came meanwhile."""
        self._was_blind = False
        self._trust_from(self._way_mm)
        for part in self._parts:
            at_gates = self._way_mm >= part.low_mm + self._zone_mm
            part.blind = part.blind or at_gates
            if (at_gates and not all(passage.ended_ns for passage in part.passages)) or (
                part.high_mm > since_mm - self._widest_mm
            ):
                self._miss(part, "the inputs and outputs were out of reach")

    def _follow(self, part: Part, index: int, gate: GateSection, now_ns: int) -> None:
        passage = part.passages[index]
        if passage.begun_ns is None and self._way_mm >= part.low_mm + gate.start_mm:
            passage.begun_ns = now_ns
            self._begin(part, index, gate)
            self._confirmations[index].expect(part, passage)
        if passage.middle_ns is None and self._way_mm >= part.high_mm + gate.distance_mm:
            passage.middle_ns = now_ns
        if passage.ended_ns is None and self._way_mm >= part.high_mm + gate.end_mm:
            passage.ended_ns = now_ns
            self._end(part, index, gate)

    def _begin(self, part: Part, index: int, gate: GateSection) -> None:
        passage = part.passages[index]
        if part.announced and gate.part is not None and not passage.seen and not part.gone:
            if part.blind:
                self._miss(part, "it cannot be known whether it came to its sensor")
            else:
                part.taken_off = True
                self._news.append(TakenOff(gate.name, part.sequence or 0, part.part_id))
        if part.command is None and part.barred is None:
            self._miss(part, "no command had come when its window began")
        late_mm = self._way_mm - (part.low_mm + gate.start_mm)
        passes = part.passes(gate) and not part.gone
        if passes and gate.at_rest == "eject" and self._crowded(part, gate):
            self._news.append(Crowded(gate.name, part.sequence or 0, part.part_id))
            part.crowded, passes = True, False
        passage.ejects = not passes
        opens = passes and gate.at_rest == "eject"
        strikes = gate.at_rest == "pass" and part.barred is None and not part.gone and not passes
        if (opens or strikes) and (late_mm > _QUARTER * gate.window_mm or not self._able):
            self._miss(part, "nobody judges" if not self._able else f"its window was noticed {late_mm:.1f} mm too late")
            opens = strikes = False
        passage.acts = opens or strikes
        passage.ejects = passage.acts != (gate.at_rest == "eject")

    def _end(self, part: Part, index: int, gate: GateSection) -> None:
        """Compare what the gate was to do while the part was in its middle with how its output stood."""
        passage = part.passages[index]
        quarter_mm = _QUARTER * gate.window_mm
        stood = self._levels[index].over(
            part.low_mm + gate.distance_mm - quarter_mm, part.high_mm + gate.distance_mm + quarter_mm
        )
        passage.certain = stood == {passage.acts}
        if passage.certain or part.gone:
            return
        if passage.acts:
            unwritten = ": the coupler was not written for longer than its watchdog waits" if None in stood else ""
            self._miss(part, f"the gate was not moved in time{unwritten}")
        elif gate.at_rest == "eject" and True in stood and not part.earned(gate):
            self._news.append(Exposed(gate.name, part.sequence, part.part_id))

    def _crowded(self, part: Part, gate: GateSection) -> bool:
        return any(
            other is not part
            and not other.passes(gate)
            and not (other.ejected and other.announced)
            and other.low_mm - part.high_mm < gate.window_mm
            and part.low_mm - other.high_mm < gate.window_mm
            for other in self._parts
        )

    def _leaves_rest(self, index: int, gate: GateSection) -> bool:
        acts = False
        for part in self._parts:
            if self._way_mm < part.low_mm + gate.start_mm:
                break
            if self._way_mm >= part.high_mm + gate.end_mm:
                continue
            if part.passages[index].acts and part.barred is None:
                acts = True
            elif gate.at_rest == "eject" and not part.passes(gate) and not (part.ejected and part.announced):
                return False
        return acts

    def _miss(self, part: Part, why: str) -> None:
        part.barred = part.barred or why
        if part.sequence is not None and not part.missed:
            part.missed = True
            self._news.append(Missed(part.sequence, part.part_id, why))

    def _drop_finished(self) -> None:
        """Let go of parts that are through; their windows may still matter to the ones behind them."""
        way_mm = self._way_mm - self._gates[-1].end_mm - self._widest_mm
        for part in self._parts:
            if self._way_mm < part.low_mm + self._zone_mm:
                break
            if all(passage.settled for passage in part.passages):
                self._finish(part)
        self._parts = [
            part
            for part in self._parts
            if part.high_mm > way_mm or not (part.sequence is None or self._known.get(part.sequence) is not part)
        ]

    def _finish(self, part: Part) -> None:
        if part.sequence is None or self._known.pop(part.sequence, None) is None:
            return
        if part.command is not None:
            self._tell_finished(part)
            return
        self._unordered[part.sequence] = part
        if len(self._unordered) > _FINISHED:
            self._unordered.popitem(last=False)

    def _tell_finished(self, part: Part) -> None:
        sequence = part.sequence or 0
        self._done[sequence] = None
        if len(self._done) > _FINISHED:
            self._done.popitem(last=False)
        outcome = part.outcome(self._gates) if part.passages else None
        self._news.append(Finished(sequence, part.part_id, outcome, part.held_back))


def _under_way(passage: Passage) -> bool:
    return passage.begun_ns is not None and passage.ended_ns is None


def _off_mm(part: Part, way_mm: float) -> float:
    return abs((part.low_mm + part.high_mm) / 2 - way_mm)
