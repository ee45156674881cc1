"""What can be asked of the stored parts, and what is answered: the types of `storage/query.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from config.errors import InputError
from config.files import explain
from config.messages import GateCommand, GateOutcome, Judgement, Reason, Region

Purpose = Literal["image", "crop"]
_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Filter(_Value):
    """Which parts are meant: all that every field given agrees with."""

    since: AwareDatetime | None = None  # trigger time
    until: AwareDatetime | None = None  # trigger time, itself not included
    run: _Name | None = None
    station: _Name | None = None
    product: _Name | None = None
    part_id: _Name | None = None
    camera: _Name | None = None  # the part has a view of it
    verdicts: frozenset[Judgement] = frozenset()  # empty: any
    reason: Reason | None = None
    score_min: FiniteFloat | None = None  # a part's score is the highest of its views
    score_max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"since ({self.since.isoformat()}) must be before until ({self.until.isoformat()})")
        if self.score_min is not None and self.score_max is not None and self.score_min > self.score_max:
            raise ValueError(f"score_min ({self.score_min}) must not be above score_max ({self.score_max})")
        return self

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Self:
        """Return the filter that `values` (as a query string or a command line gives them) mean.

        Raise InputError that names each wrong field.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InputError(f"filter: {explain(error)}") from error


class ImageRef(_Value):
    """A JPEG that is stored; `region` is None where it shows the whole view."""

    camera: str
    purpose: Purpose
    region: int | None
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
    views: tuple[ViewLine, ...]
    images: tuple[ImageRef, ...]


class Page(_Value):
    """Parts, newest first; pass `after` to get the ones that follow (None: there are no more)."""

    parts: tuple[PartLine, ...]
    after: str | None


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
    """How many parts a filter finds."""

    total: int
    verdicts: dict[Judgement, int]


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
