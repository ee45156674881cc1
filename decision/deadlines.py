"""Which parts are open, what is known of each, and by when each must be judged. Pure: the time is an argument."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from config.messages import Loss, Prediction, Trigger

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from decision.rules import Rules

_EARLY_PARTS = 1000  # parts whose predictions are kept although their trigger has not come


@dataclass(frozen=True)
class Scored:
    """A prediction with its anomaly map `(h, w)` float32."""

    prediction: Prediction
    anomaly_map: npt.NDArray[np.float32]


Answer: TypeAlias = Scored | Loss


@dataclass
class OpenPart:
    """A triggered part and the answers that are in, by camera."""

    trigger: Trigger
    answers: dict[str, Answer] = field(default_factory=dict)
    rules: Rules | None = None  # in force when it was triggered; None: no such recipe is known

    @property
    def complete(self) -> bool:
        """Whether every view that the trigger expects has its answer."""
        return all(view in self.answers for view in self.trigger.views)


class Docket:
    """The open parts; each leaves it once: complete, or at its deadline."""

    def __init__(self) -> None:
        self._open: dict[str, OpenPart] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._early: OrderedDict[str, dict[str, Answer]] = OrderedDict()
        self._complete: list[str] = []
        self.dropped = 0  # parts whose trigger never came

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, part_id: str) -> bool:
        return part_id in self._open

    def trigger(self, trigger: Trigger, rules: Rules | None = None) -> None:
        """Open a part; a second trigger for it (of another camera, or repeated) adds no more than a truth.

        `rules` are what the part will be judged by, whatever comes into force before it is.
        """
        known = self._open.get(trigger.part_id)
        if known is not None:
            if known.trigger.truth is None and trigger.truth is not None:
                known.trigger = replace(known.trigger, truth=trigger.truth)
            return
        part = OpenPart(trigger, self._early.pop(trigger.part_id, {}), rules)
        self._open[trigger.part_id] = part
        heapq.heappush(self._deadlines, (trigger.deadline_ns, trigger.part_id))
        if part.complete:
            self._complete.append(trigger.part_id)

    def answer(self, part_id: str, camera: str, answer: Answer) -> None:
        """Take an answer for one view; the first one counts, except that a score takes the place of a loss."""
        part = self._open.get(part_id)
        if part is None:
            self._early.setdefault(part_id, {}).setdefault(camera, answer)
            if len(self._early) > _EARLY_PARTS:
                self._early.popitem(last=False)
                self.dropped += 1
            return
        known = part.answers.get(camera)
        if known is None or (isinstance(known, Loss) and isinstance(answer, Scored)):
            part.answers[camera] = answer
        if known is None and part.complete:
            self._complete.append(part_id)

    def forget(self, part_id: str) -> None:
        """Drop early answers of a part that has been judged already."""
        self._early.pop(part_id, None)

    def due(self, now_ns: int) -> list[OpenPart]:
        """Take out the parts that are complete and those whose deadline has come, in that order."""
        found = [self._open.pop(part_id) for part_id in self._complete if part_id in self._open]
        self._complete.clear()
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, part_id = heapq.heappop(self._deadlines)
            if part_id in self._open:
                found.append(self._open.pop(part_id))
        return found

    def close(self) -> list[OpenPart]:
        """Take out all parts that are still open."""
        found = list(self._open.values())
        self._open.clear()
        return found

    def next_ns(self) -> int | None:
        """Return the next deadline of an open part."""
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None
