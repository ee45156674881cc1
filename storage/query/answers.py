"""What is answered of the stored parts: the types of `storage/query/service.py`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from config.messages import GateCommand, GateOutcome, Judgement, Reason

Encoding = Literal["jpeg", "png"]
Purpose = Literal["image", "crop"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class ImageRef(_Value):
    """An image that is stored; `region` is None where it shows the whole view."""

    camera: str
    purpose: Purpose
    region: int | None
    encoding: Encoding
    width_px: int
    height_px: int


class ViewLine(_Value):
    """One view of a part, in short."""

    camera: str
    verdict: Judgement
    score: float | None


class PartLine(_Value):
    """A part as it stands in a list; times between events in ms."""

    part_id: str
    run: str
    sequence: int
    station: str
    line: str
    product: str
    recipe: str
    recipe_version: int
    verdict: Judgement
    reasons: tuple[Reason, ...]
    score: float | None
    trigger_time: datetime
    trigger_to_verdict_ms: float
    deadline_ms: float
    gate: GateCommand
    gate_outcome: GateOutcome | None  # None: not reported, or not yet
    gate_confirmed: bool | None  # None: no report yet
    trigger_to_gate_ms: float | None
    truth_good: bool | None
    truth_defect: str | None
    truth_source: str | None
    challenge: bool
    views: tuple[ViewLine, ...]
    images: tuple[ImageRef, ...]


class Page(_Value):
    """Parts, newest first; pass `after` to get the ones that follow (None: there are no more).

    One answer looks at so many rows and no more. Where it stopped before it had found enough, `searched_to` is the
    time that it came back to, and `after` goes on from there.
    """

    parts: tuple[PartLine, ...]
    after: str | None
    searched_to: datetime | None = None


class Region(_Value, from_attributes=True):
    """A region of a view above threshold, in pixels of the frame; it is also made of a message's."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    score: float


class ViewDetail(ViewLine):
    """All that is known of one view; `anomaly_map` is float16 `(h, w)` and stays out of JSON."""

    reasons: tuple[Reason, ...]
    review_above: float | None
    reject_above: float | None
    bundle_digest: str | None
    frame_shape: tuple[int, int, int] | None
    map_shape: tuple[int, int] | None
    regions: tuple[Region, ...]
    worker: str | None
    batch_size: int | None
    queue_ms: float | None  # between the frame's arrival at the worker and the start of its batch
    inference_ms: float | None
    anomaly_map: NDArray[np.float16] | None = Field(exclude=True, repr=False)


class Part(PartLine):
    """A part with everything that is stored of it."""

    details: tuple[ViewDetail, ...]


class Counts(_Value):
    """How many parts a filter finds; with `at_least` there may be more: one answer counts so many and no more.

    What tallies can tell is exact, and counts also parts whose rows retention has removed.
    """

    total: int
    verdicts: dict[Judgement, int]
    at_least: bool = False

    @classmethod
    def of(cls, page: Page) -> Self | None:
        """Return the counts that a first page tells by itself: of all that its search could find."""
        if page.after is not None and page.searched_to is None:
            return None
        verdicts = [part.verdict for part in page.parts]
        counted = {judgement: verdicts.count(judgement) for judgement in Judgement}
        return cls(total=len(verdicts), verdicts=counted, at_least=page.searched_to is not None)


class Bucket(StrEnum):
    """How long one point of a series is; in UTC, weeks begin on Monday."""

    MINUTE = "minute"  # of at most six hours
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


class Rate(_Value):
    """What was judged in one bucket."""

    start: datetime
    parts: int
    verdicts: dict[Judgement, int]
    scored: int
    mean_score: float | None


class Rates(_Value):
    """A series, the oldest bucket first; buckets without parts are left out.

    One answer looks at so many rows and no more: where that did not suffice, only what lies after `searched_to` is
    counted.
    """

    bucket: Bucket
    points: tuple[Rate, ...]
    searched_to: datetime | None = None


class Seen(_Value):
    """Something that parts were seen of, from the first to the last of them."""

    name: str
    first: datetime
    last: datetime


class Choices(_Value):
    """What there is to choose from, what was seen last first; of runs the last hundred."""

    lines: tuple[Seen, ...] = ()
    stations: tuple[Seen, ...] = ()
    cameras: tuple[Seen, ...] = ()
    products: tuple[Seen, ...] = ()
    recipes: tuple[Seen, ...] = ()
    bundles: tuple[Seen, ...] = ()
    runs: tuple[Seen, ...] = ()


class Latency(_Value):
    """A distribution of times; None where there was nothing to measure."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class TruthCounts(_Value):
    """Parts whose truth was known, by how they were judged."""

    good: int
    bad: int
    false_reject: int  # good, not judged PASS
    escape: int  # bad, judged PASS
    good_review: int  # of them, judged REVIEW
    bad_review: int


class Summary(_Value):
    """A run in numbers, all counted from the database."""

    run: str
    recorded: int  # rows
    doubled: int  # rows beyond one for each sequence number
    verdicts: dict[Judgement, int]
    truth: TruthCounts
    late: int  # reason LATE, or judged after the deadline
    overruns: int  # reason OVERRUN
    gate_reports: int
    gate_commands: int  # taken by the PLC
    gate_confirmed: int  # the PLC saw what was commanded
    trigger_to_verdict: Latency
    trigger_to_gate: Latency
    inference: Latency  # of a view's batch, in the worker
    first_trigger: datetime | None
    last_trigger: datetime | None
