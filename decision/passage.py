"""A part on its way past the gates: what each gate was to do with it, what it did, what was seen of it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from config.gates import GateSection
from config.messages import GateCommand, GateOutcome, Judgement

_LEVELS = 256


@dataclass
class Passage:
    """A part at one gate; times are monotonic and None until they have come."""

    acts: bool = False  # the gate was to leave its rest for it
    begun_ns: int | None = None
    middle_ns: int | None = None
    ended_ns: int | None = None
    ejects: bool = True  # what the gate was to do, by rest or by acting
    certain: bool = True  # the gate did that for certain while the part was in its middle
    seen: bool = False  # by the gate's part sensor
    ejected: bool = False  # the ejected-part sensor saw it
    settled: bool = False  # nothing more will be seen of it here


@dataclass
class Part:
    """A part behind the cameras; `low_mm` and `high_mm` are the way of the belt at its trigger, equal where known."""

    sequence: int | None  # None: a part that nobody announced
    part_id: str
    low_mm: float
    high_mm: float
    passages: list[Passage]
    command: GateCommand | None = None
    verdict: Judgement | None = None
    barred: str | None = None  # why no gate acts on it any more
    taken_off: bool = False  # a part sensor has not seen it: nothing is opened for it
    missed: bool = False
    blind: bool = False  # it cannot be known what sensors would have seen of it
    crowded: bool = False  # it may pass, and one beside it may not

    @property
    def announced(self) -> bool:
        """Whether cameras have seen it."""
        return self.sequence is not None

    @property
    def ejected(self) -> bool:
        """Whether it was seen ejected: there is nothing to pass and nothing to eject."""
        return any(passage.ejected for passage in self.passages)

    @property
    def gone(self) -> bool:
        """Whether it is not to be expected at a gate."""
        return self.ejected or self.taken_off

    @property
    def held_back(self) -> str | None:
        """Why it was not let pass although it had earned that; None where it was, or had not."""
        if self.command is not GateCommand.PASS:
            return None
        if self.barred is not None:
            return self.barred
        if self.taken_off:
            return "its part sensor did not see it"
        if self.crowded:
            return "a part that had not earned to pass was too close"
        return "it was ejected although its gate stood open" if self.ejected else None

    def earned(self, gate: GateSection) -> bool:
        """Tell whether it has been judged such that it may pass a gate."""
        return self.command is GateCommand.PASS or (self.command is not None and self.verdict not in gate.ejects)

    def passes(self, gate: GateSection) -> bool:
        """Tell whether a gate is to let it pass: it has earned it, and that was known in time."""
        return self.barred is None and self.earned(gate)

    def outcome(self, gates: tuple[GateSection, ...]) -> GateOutcome | None:
        """Return what sensors have shown of it; None where that is not known."""
        if self.ejected:
            return GateOutcome.EJECTED
        watched = all(gate.ejected is not None for gate in gates)
        passed = all(passage.settled and passage.certain and not passage.ejects for passage in self.passages)
        return GateOutcome.PASSED if watched and passed and not self.blind and not self.gone else None


@dataclass
class Levels:
    """What one output was set to over the belt's way, as it was taken by the coupler; None where that is unknown."""

    _changes: deque[tuple[float, bool | None]] = field(default_factory=lambda: deque(maxlen=_LEVELS))

    def add(self, way_mm: float, on: bool | None) -> None:  # noqa: FBT001 - a level is a yes or no
        """Note a level from a way on."""
        if not self._changes or self._changes[-1][1] is not on:
            self._changes.append((way_mm, on))

    def over(self, from_mm: float, to_mm: float) -> set[bool | None]:
        """Return every level that stood somewhere between two ways."""
        found: set[bool | None] = set()
        standing: bool | None = None
        for way_mm, on in self._changes:
            if way_mm > to_mm:
                break
            if way_mm > from_mm:
                found.add(standing)
            standing = on
        return found | {standing}
