"""What becomes of parts behind the cameras, as the tracker tells it."""

from __future__ import annotations

from dataclasses import dataclass

from config.messages import GateOutcome


@dataclass(frozen=True)
class Accepted:
    """A part's command came in time; its window will follow it."""

    sequence: int
    part_id: str
    accepted_ns: int


@dataclass(frozen=True)
class Missed:
    """No gate acted, or acts, on a part as commanded; it was left to the gates at rest."""

    sequence: int
    part_id: str
    why: str


@dataclass(frozen=True)
class Crowded:
    """A part that may pass is ejected: it is closer than the window to one that may not."""

    gate: str
    sequence: int
    part_id: str


@dataclass(frozen=True)
class Exposed:
    """A gate may have let pass a part that had not earned it."""

    gate: str
    sequence: int | None
    part_id: str


@dataclass(frozen=True)
class TakenOff:
    """A part did not come to the gate: somebody took it off the belt."""

    gate: str
    sequence: int
    part_id: str


@dataclass(frozen=True)
class Reappeared:
    """A part that was said to be taken off the belt was seen at a gate: the sensor before it had not seen it."""

    gate: str
    sequence: int
    part_id: str


@dataclass(frozen=True)
class Stranger:
    """A part came to the gate that no camera has seen."""

    gate: str


@dataclass(frozen=True)
class Finished:
    """All that will ever be known of a part is known; once for each part that was expected and ordered.

    `held_back` says why a part that had earned to pass was not let pass.
    """

    sequence: int
    part_id: str
    outcome: GateOutcome | None
    held_back: str | None = None


@dataclass(frozen=True)
class Lost:
    """The ways of all parts under way are unknown from now on."""

    why: str
    parts: int


@dataclass(frozen=True)
class AsCommanded:
    """A gate was seen to do with a part what it was to do."""

    gate: str
    ejected: bool


@dataclass(frozen=True)
class Unconfirmed:
    """A part was to be ejected, and the sensor has not seen it."""

    gate: str
    sequence: int | None
    part_id: str


@dataclass(frozen=True)
class Unexpected:
    """The sensor saw a part that was to pass, or one that nobody knows of."""

    gate: str
    sequence: int | None
    part_id: str


Fate = (
    Accepted
    | Missed
    | Crowded
    | Exposed
    | TakenOff
    | Reappeared
    | Stranger
    | Finished
    | Lost
    | AsCommanded
    | Unconfirmed
    | Unexpected
)
