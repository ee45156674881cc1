"""The search form of the defects page: what stands in its URL, and the filter that it means. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from config.messages import Judgement, Reason
from storage.filters import Filter

_SHIFT_H = 8
_FIRST_SHIFT_H = 6  # 06:00, 14:00 and 22:00
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


Text = Annotated[Annotated[str, Field(max_length=120)] | None, BeforeValidator(_nothing_if_blank)]
Cursor = Annotated[Annotated[str, Field(max_length=400)] | None, BeforeValidator(_nothing_if_blank)]
Number = Annotated[FiniteFloat | None, BeforeValidator(_nothing_if_blank)]
Moment = Annotated[datetime | None, BeforeValidator(_nothing_if_blank)]


class Search(BaseModel):
    """What is looked for, as the URL says it. Times without a zone are the station's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    when: When = When.TODAY
    since: Moment = None
    until: Moment = None
    verdict: tuple[Judgement, ...] = ()  # none: all that did not pass
    product: Text = None
    reason: Annotated[Reason | None, BeforeValidator(_nothing_if_blank)] = None
    part_id: Text = None
    score_min: Number = None
    score_max: Number = None
    after: Cursor = None

    @property
    def verdicts(self) -> tuple[Judgement, ...]:
        """The verdicts that are looked for."""
        return self.verdict or NOT_PASSED

    def filter(self, now: datetime) -> Filter:
        """Return the filter that is meant at `now`, which has a zone; raise InputError if it holds nothing."""
        since, until = self._range(now)
        everywhere = self.part_id is not None  # a part that is named is found whatever else is chosen
        return Filter.parse(
            {
                "since": None if everywhere else since,
                "until": None if everywhere else until,
                "verdicts": frozenset() if everywhere else frozenset(self.verdicts),
                "product": self.product,
                "reason": self.reason,
                "part_id": self.part_id,
                "score_min": self.score_min,
                "score_max": self.score_max,
            }
        )

    def query(self, **changes: object) -> str:
        """Return the query string of this search with `changes`; what is not asked for does not stand in it."""
        values = {**self.model_dump(mode="json", exclude_defaults=True), **changes}
        return urlencode({name: value for name, value in values.items() if value not in (None, "", ())}, doseq=True)

    def _range(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        match self.when:
            case When.HOUR:
                return now - timedelta(hours=1), None
            case When.SHIFT:
                return shift_start(now), None
            case When.TODAY:
                return midnight, None
            case When.CUSTOM:
                return _in_zone(self.since, now), _in_zone(self.until, now)
            case When.ALL:
                return None, None


def shift_start(now: datetime) -> datetime:
    """Return when the present shift began; shifts are eight hours long and change at 06:00, 14:00 and 22:00."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return hour - timedelta(hours=(now.hour - _FIRST_SHIFT_H) % _SHIFT_H)


def _in_zone(moment: datetime | None, now: datetime) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=now.tzinfo)
