"""What goes wrong at the station's own gates, as counters and as alarms that begin and end."""

from __future__ import annotations

from collections import Counter

from decision import fates
from decision.fates import Fate

_QUIET_NS = 10_000_000_000  # an alarm ends when what it tells of has not happened again for so long


class Recent:
    """What has gone wrong of late: alarms without a state of their own."""

    def __init__(self) -> None:
        self._happened: dict[str, tuple[int, str]] = {}  # alarm -> when last, what to say of it

    def note(self, name: str, detail: str, now_ns: int) -> None:
        """Let an alarm begin, or go on."""
        self._happened[name] = now_ns, detail

    def on(self, now_ns: int) -> dict[str, str]:
        """Return the alarms that are on, with what to say of each."""
        self._happened = {
            name: (last_ns, detail)
            for name, (last_ns, detail) in self._happened.items()
            if now_ns - last_ns < _QUIET_NS
        }
        return {name: detail for name, (_, detail) in self._happened.items()}


class Troubles:
    """Counters of everything, and what is on."""

    def __init__(self, counters: Counter[str]) -> None:
        """Count in `counters`."""
        self.counters = counters
        self._recent = Recent()
        self._io_down: str | None = None

    def io_down(self, reason: str) -> None:
        """Note that the inputs and outputs are out of reach."""
        self.counters["io_down"] += 1
        self._io_down = reason

    def io_up(self) -> None:
        """Note that they are there."""
        self._io_down = None

    def io_slow(self, doubt_ns: int, now_ns: int) -> None:
        """Note that a reading was left out."""
        self.counters["io_slow"] += 1
        told = f"a reading was left out: its counters may have been read {doubt_ns / 1e6:.0f} ms earlier or later"
        self._recent.note("io_slow", told, now_ns)

    def note(self, fate: Fate, now_ns: int) -> None:
        """Count what has become of a part."""
        match fate:
            case fates.AsCommanded(ejected=ejected):
                self.counters["gate_ejected" if ejected else "gate_passed"] += 1
            case fates.TakenOff():
                self.counters["part_taken_off"] += 1
            case fates.Accepted() | fates.Finished():
                pass
            case _:
                name, detail = _alarm(fate)
                self.counters[name] += 1
                self._recent.note(name, detail, now_ns)

    def alarms(self, now_ns: int) -> dict[str, str]:
        """Return the alarms that are on, with what to say of each: all that they tell of is counted."""
        on = self._recent.on(now_ns)
        if self._io_down is not None:
            on["io_down"] = self._io_down
        return on


_Wrong = (
    fates.Missed
    | fates.Crowded
    | fates.Exposed
    | fates.Reappeared
    | fates.Stranger
    | fates.Unconfirmed
    | fates.Unexpected
    | fates.Lost
)


def _alarm(fate: _Wrong) -> tuple[str, str]:
    """Return the alarm that a fate raises, and what to say of it."""
    match fate:
        case fates.Missed(_, part_id, why):
            told = "gate_missed", f"part {part_id}: {why}"
        case fates.Crowded(gate, _, part_id):
            told = "parts_too_close", f"gate {gate}: good part {part_id} was ejected with one beside it"
        case fates.Exposed(gate, _, part_id):
            told = "gate_open_too_long", f"gate {gate}: part {part_id} may have passed"
        case fates.Reappeared(gate, _, part_id):
            told = "part_sensor_blind", f"gate {gate}: part {part_id} came, and its part sensor had not seen it"
        case fates.Unconfirmed(gate, _, part_id):
            told = "reject_unconfirmed", f"gate {gate}: part {part_id} was not seen ejected"
        case fates.Unexpected(gate, _, part_id):
            told = "unexpected_ejection", f"gate {gate}: {part_id or 'a part that nobody knows'}"
        case fates.Stranger(gate):
            told = "part_unknown", f"gate {gate}: a part came that no camera has seen"
        case fates.Lost(why, parts):
            told = "tracking_lost", f"{why}; {parts} parts left to the gates at rest"
    return told
