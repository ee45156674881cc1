"""The search form of the defects page: what stands in its URL, and the filter that it means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from config.messages import Judgement, Reason
from config.shifts import DEFAULT, Shift, present
from storage.query.filters import Filter, ReviewState

NOT_PASSED = (Judgement.REJECT, Judgement.REVIEW, Judgement.FAULT)


class When(StrEnum):
    """The time ranges that one click chooses."""

    HOUR = "hour"
    SHIFT = "shift"
    TODAY = "today"
    ALL = "all"
    CUSTOM = "custom"


def _nothing_if_blank(value: object) -> object:
    """Take a field that the form sends empty for one that is not there."""
    return None if isinstance(value, str) and not value.strip() else value


_Blank = BeforeValidator(_nothing_if_blank)
Text = Annotated[Annotated[str, Field(max_length=120)] | None, _Blank]
Cursor = Annotated[Annotated[str, Field(max_length=400)] | None, _Blank]
Number = Annotated[FiniteFloat | None, _Blank]
Whole = Annotated[int | None, _Blank]
Moment = Annotated[datetime | None, _Blank]


class Search(BaseModel):
    """What is looked for, as the URL says it. Times without a zone are the station's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    when: When = When.TODAY
    since: Moment = None
    until: Moment = None
    verdict: tuple[Judgement, ...] = ()  # none: all that did not pass
    product: Text = None
    reason: Annotated[Reason | None, _Blank] = None
    part_id: Text = None
    score_min: Number = None
    score_max: Number = None
    line: Text = None
    station: Text = None
    camera: Text = None
    recipe: Text = None
    recipe_version: Whole = None
    bundle: Text = None
    run: Text = None
    defect_class: Text = None
    area_min_px: Whole = None
    area_max_px: Whole = None
    x_min: Number = None
    x_max: Number = None
    y_min: Number = None
    y_max: Number = None
    challenge: Annotated[bool | None, _Blank] = None
    gate_confirmed: Annotated[bool | None, _Blank] = None
    review: Annotated[ReviewState | None, _Blank] = None
    after: Cursor = None

    @property
    def verdicts(self) -> tuple[Judgement, ...]:
        """The verdicts that are looked for."""
        return self.verdict or NOT_PASSED

    @property
    def more(self) -> bool:
        """Whether anything is looked for that the first row of the form does not say."""
        return any(getattr(self, name) is not None for name in _MORE)

    def filter(self, now: datetime, shifts: Sequence[Shift] = DEFAULT) -> Filter:
        """Return the filter that is meant at `now`, which has a zone; raise InputError if it holds nothing."""
        since, until = self._range(now, shifts)
        everywhere = self.part_id is not None  # a part that is named is found whatever else is chosen
        said = {
            name: getattr(self, name) for name in (*_MORE, "product", "reason", "part_id", "score_min", "score_max")
        }
        if everywhere:
            return Filter.parse(said)
        return Filter.parse({**said, "since": since, "until": until, "verdicts": frozenset(self.verdicts)})

    def query(self, **changes: object) -> str:
        """Return the query string of this search with `changes`; what is not asked for does not stand in it."""
        values = {**self.model_dump(mode="json", exclude_defaults=True), **changes}
        return urlencode({name: value for name, value in values.items() if value not in (None, "", ())}, doseq=True)

    def _range(self, now: datetime, shifts: Sequence[Shift]) -> tuple[datetime | None, datetime | None]:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        match self.when:
            case When.HOUR:
                return now - timedelta(hours=1), None
            case When.SHIFT:
                return present(shifts, now).began, None
            case When.TODAY:
                return midnight, None
            case When.CUSTOM:
                return _in_zone(self.since, now), _in_zone(self.until, now)
            case When.ALL:
                return None, None


_MORE = (
    *("line", "station", "camera", "recipe", "recipe_version", "bundle", "run", "defect_class", "area_min_px"),
    *("area_max_px", "x_min", "x_max", "y_min", "y_max", "challenge", "gate_confirmed", "review"),
)


def _in_zone(moment: datetime | None, now: datetime) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=now.tzinfo)
