"""How numbers, times and words stand on a page. Pure; `static/format.js` does the same in the browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from config.messages import GateCommand, GateOutcome, Judgement, Reason
from storage.console.language import text
from storage.console.models import local
from storage.people import Role
from storage.query.filters import ReviewState
from storage.reviews import Finding

NOTHING = "\u2013"

WORDS = {
    Judgement.PASS: text("Pass"),
    Judgement.REJECT: text("Reject"),
    Judgement.REVIEW: text("Review"),
    Judgement.FAULT: text("Fault"),
}
REASONS = {
    Reason.ABOVE_THRESHOLD: text("score above the reject threshold"),
    Reason.GRAY_ZONE: text("score in the gray zone"),
    Reason.TOO_MANY_DEFECTS: text("too many defects in the gray zone"),
    Reason.IN_ZONE: text("by the limits of a zone"),
    Reason.TOO_FEW_VIEWS: text("rejected by fewer views than the recipe asks for"),
    Reason.LATE: text("no prediction by the deadline"),
    Reason.OVERRUN: text("no free slot in the camera's ring"),
    Reason.UNREADABLE_FRAME: text("unreadable frame"),
    Reason.CAMERA_DOWN: text("the camera was away"),
    Reason.UNKNOWN_RECIPE: text("unknown recipe"),
    Reason.WRONG_BUNDLE: text("scored by another bundle than the recipe names"),
    Reason.WRONG_FRAME: text("colours or size that the bundle or a zone does not take"),
    Reason.NOT_FINITE: text("the score is not finite"),
    Reason.NOTHING_INSPECTED: text("ROI and exclusions leave nothing to inspect"),
    Reason.STOPPED: text("the station was stopped"),
}
COMMANDS = {
    GateCommand.PASS: text("let pass"),
    GateCommand.REJECT: text("eject"),
    GateCommand.STOP: text("eject and stop the line"),
}
REVIEWS = {
    ReviewState.UNREVIEWED: text("not reviewed"),
    ReviewState.REVIEWED: text("reviewed"),
    ReviewState.GOOD: text("good"),
    ReviewState.DEFECT: text("defect"),
    ReviewState.UNSURE: text("unsure"),
    ReviewState.DISPUTED: text("reviewers disagree"),
    ReviewState.HELD: text("on hold"),
}
FINDINGS = {Finding.GOOD: text("good"), Finding.DEFECT: text("defect"), Finding.UNSURE: text("unsure")}
SEVERITIES = {"ALARM": text("Alarm"), "WARNING": text("Warning"), "INFO": text("Information")}
STATES = {"BEGAN": text("began"), "ENDED": text("ended"), "HAPPENED": text("happened")}
ROLES = {
    Role.VIEWER: text("Viewer"),
    Role.OPERATOR: text("Operator"),
    Role.ENGINEER: text("Engineer"),
    Role.ADMIN: text("Administrator"),
}
OUTCOMES = {GateOutcome.PASSED: text("passed"), GateOutcome.EJECTED: text("ejected")}


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
}
WORDING: dict[str, Callable[[Any], str]] = {  # filters whose English is translated
    "word": WORDS.__getitem__,
    "review": REVIEWS.__getitem__,
    "reason": REASONS.__getitem__,
    "command": COMMANDS.__getitem__,
    "outcome": OUTCOMES.__getitem__,
    "role": ROLES.__getitem__,
    "finding": FINDINGS.__getitem__,
    "severity": SEVERITIES.__getitem__,
    "state": STATES.__getitem__,
}
