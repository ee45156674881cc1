"""The pictures that are still to be taken of parts that the PLC has triggered. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_TOLD_NS = 300_000_000  # a camera tells a decision stage that is new to it of all its parts within milliseconds


@dataclass
class _Part:
    sequence: int
    missing: set[str]  # cameras
    again: bool


@dataclass
class Exposures:
    """Parts that lack a picture: none can be triggered before the last of them has all of its own, or will have none.

    What a former process of the run had taken is not exposed `again`: a camera that has it says so as soon as it knows
    of this process. Of the rest there will be no picture, and nobody need wait for their deadlines.
    """

    _parts: dict[str, _Part] = field(default_factory=dict)
    _met_ns: dict[str, int] = field(default_factory=dict)  # cameras, when this process heard of them first

    def begin(self, part_id: str, sequence: int, views: Iterable[str], *, again: bool) -> None:
        """Wait for a part's pictures."""
        self._parts[part_id] = _Part(sequence, set(views), again)

    def meet(self, camera: str, now_ns: int) -> None:
        """Note that a camera is there."""
        self._met_ns.setdefault(camera, now_ns)

    def settle(self, part_id: str, camera: str) -> int | None:
        """Take a camera's word, a picture or none; return the sequence of a part that has them all now."""
        part = self._parts.get(part_id)
        if part is None:
            return None
        part.missing.discard(camera)
        if part.missing:
            return None
        del self._parts[part_id]
        return part.sequence

    def forget(self, part_id: str) -> None:
        """Wait for a part no longer: it is judged."""
        self._parts.pop(part_id, None)

    def never(self, now_ns: int) -> list[tuple[str, str]]:
        """Return part and camera of each picture that a former process may have asked for and that was never taken."""
        told = {camera for camera, met_ns in self._met_ns.items() if now_ns - met_ns >= _TOLD_NS}
        return [
            (part_id, camera)
            for part_id, part in self._parts.items()
            if part.again
            for camera in sorted(part.missing & told)
        ]
