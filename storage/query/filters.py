"""Which stored parts are meant: one type for API, command line and console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic import ValidationError as _ValidationError

from config.errors import InputError
from config.files import explain
from config.messages import Judgement, Reason

_LARGEST = 2**31 - 1  # of PostgreSQL's integer
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_BUNDLE = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("must be printable text")
    return name


def _digest(text: str) -> str:
    found = _BUNDLE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("must be a bundle's digest or at least the first 8 hexadecimal digits of it")
    return found[1]


def _of_our_time(moment: datetime) -> datetime:
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError(f"must be from {_EARLIEST.year} on and before {_LATEST.year}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_of_our_time)]  # hours may be added to it, and any zone be its own
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=0, le=_LARGEST)]


class ReviewState(StrEnum):
    """What people have said of a part. A reviewer's last word on the whole part counts, not on a view or a defect."""

    UNREVIEWED = "unreviewed"
    REVIEWED = "reviewed"  # somebody has said something of the part, a view or a defect
    GOOD = "good"  # all reviewers say so
    DEFECT = "defect"
    UNSURE = "unsure"
    DISPUTED = "disputed"  # reviewers disagree
    HELD = "held"  # on hold


class Filter(BaseModel):
    """Which parts are meant: all that every field given agrees with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    since: Moment | None = Field(None, description="first trigger time")
    until: Moment | None = Field(None, description="trigger time, itself not included")
    line: Name | None = None
    station: Name | None = None
    camera: Name | None = Field(None, description="the part has a view of it")
    product: Name | None = None
    recipe: Name | None = None
    recipe_version: Annotated[int, Field(ge=0, le=_LARGEST)] | None = None
    bundle: Annotated[str, AfterValidator(_digest)] | None = Field(
        None, description="digest of the bundle that judged a view, or its first 8 hexadecimal digits or more"
    )
    verdicts: frozenset[Judgement] = Field(frozenset(), description="none: any")
    reason: Reason | None = None
    score_min: FiniteFloat | None = Field(None, description="a part's score is the highest of its views")
    score_max: FiniteFloat | None = None
    defect_class: Name | None = Field(None, description="one and the same defect has all that is said of defects")
    area_min_px: Pixels | None = None
    area_max_px: Pixels | None = None
    x_min: Share | None = Field(None, description="of the middle of a defect's box, from 0 (left) to 1 (right)")
    x_max: Share | None = None
    y_min: Share | None = Field(None, description="from 0 (top) to 1 (bottom)")
    y_max: Share | None = None
    part_id: Name | None = None
    run: Name | None = None
    challenge: bool | None = Field(None, description="known to be bad and sent through to prove that the gate works")
    gate_confirmed: bool | None = Field(None, description="whether the PLC saw at the gate what was commanded")
    review: ReviewState | None = None

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"since ({self.since.isoformat()}) must be before until ({self.until.isoformat()})")
        for low, high in _RANGES:
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} ({least}) must not be above {high} ({most})")
        return self

    @property
    def by_defect(self) -> bool:
        """Whether anything is said of a defect."""
        return any(getattr(self, name) is not None for name in _DEFECT)

    @property
    def by_tally(self) -> bool:
        """Whether tallies by the hour can tell how many there are."""
        return all(getattr(self, name) is None for name in Filter.model_fields if name not in _TALLIED)

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Self:
        """Return the filter that `values` (as a query string or a command line gives them) mean.

        Raise InputError that names each wrong field.
        """
        try:
            return cls.model_validate(dict(values))
        except _ValidationError as error:
            raise InputError(f"filter: {explain(error)}") from error


_RANGES = (("score_min", "score_max"), ("area_min_px", "area_max_px"), ("x_min", "x_max"), ("y_min", "y_max"))
_DEFECT = ("defect_class", "area_min_px", "area_max_px", "x_min", "x_max", "y_min", "y_max")
_TALLIED = {"since", "until", "line", "station", "product", "recipe", "recipe_version", "verdicts"}
