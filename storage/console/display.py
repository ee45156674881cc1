"""How numbers, times and words stand on a page. Pure; `static/format.js` does the same in the browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from config.messages import GateCommand, GateOutcome, Judgement, Reason
from storage.console.models import local
from storage.query.filters import ReviewState

NOTHING = "\u2013"

WORDS = {
    Judgement.PASS: "Pass",
    Judgement.REJECT: "Reject",
    Judgement.REVIEW: "Review",
    Judgement.FAULT: "Fault",
}
REASONS = {
    Reason.ABOVE_THRESHOLD: "score above the reject threshold",
    Reason.GRAY_ZONE: "score in the gray zone",
    Reason.TOO_MANY_DEFECTS: "too many defects in the gray zone",
    Reason.IN_ZONE: "by the limits of a zone",
    Reason.TOO_FEW_VIEWS: "rejected by fewer views than the recipe asks for",
    Reason.LATE: "no prediction by the deadline",
    Reason.OVERRUN: "no free slot in the camera's ring",
    Reason.UNREADABLE_FRAME: "unreadable frame",
    Reason.CAMERA_DOWN: "the camera was away",
    Reason.UNKNOWN_RECIPE: "unknown recipe",
    Reason.WRONG_BUNDLE: "scored by another bundle than the recipe names",
    Reason.WRONG_FRAME: "colours or size that the bundle or a zone does not take",
    Reason.NOT_FINITE: "the score is not finite",
    Reason.NOTHING_INSPECTED: "ROI and exclusions leave nothing to inspect",
    Reason.STOPPED: "the station was stopped",
}
COMMANDS = {
    GateCommand.PASS: "let pass",
    GateCommand.REJECT: "eject",
    GateCommand.STOP: "eject and stop the line",
}
REVIEWS = {
    ReviewState.UNREVIEWED: "not reviewed",
    ReviewState.REVIEWED: "reviewed",
    ReviewState.GOOD: "good",
    ReviewState.DEFECT: "defect",
    ReviewState.UNSURE: "unsure",
    ReviewState.DISPUTED: "reviewers disagree",
    ReviewState.HELD: "on hold",
}
OUTCOMES = {GateOutcome.PASSED: "passed", GateOutcome.EJECTED: "ejected"}


def score(value: float | None) -> str:
    """Write a score with four digits that count."""
    if value is None:
        return NOTHING
    size = abs(value)
    decimals = 1 if size >= 1000 else 2 if size >= 100 else 3  # noqa: PLR2004 - powers of ten
    return f"{value:.{decimals}f}"


def milliseconds(value: float | None) -> str:
    """Write a duration."""
    return NOTHING if value is None else f"{value:.1f} ms"


def count(value: int) -> str:
    """Write a count with thin spaces between the thousands."""
    return f"{value:,}".replace(",", "\u202f")


def clock(moment: datetime) -> str:
    """Write a time of day in the station's zone."""
    return local(moment).strftime("%H:%M:%S")


def date(moment: datetime) -> str:
    """Write a date in the station's zone."""
    return local(moment).strftime("%Y-%m-%d")


def field(moment: datetime | None) -> str:
    """Write a time as a form field wants it."""
    return "" if moment is None else local(moment).strftime("%Y-%m-%dT%H:%M")


FILTERS: dict[str, Callable[[Any], str]] = {
    "score": score,
    "ms": milliseconds,
    "count": count,
    "clock": clock,
    "date": date,
    "field": field,
    "word": WORDS.__getitem__,
    "review": REVIEWS.__getitem__,
    "reason": REASONS.__getitem__,
    "command": COMMANDS.__getitem__,
    "outcome": OUTCOMES.__getitem__,
}
