"""What the API answers beyond `storage/query/answers.py`, and what the live page is told. Time between events in ms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from config.events import Severity
from config.messages import Event, GateCommand, GateOutcome, GateReport, Judgement, Reason, Verdict, View
from storage.alarms import Acknowledgement
from storage.console.andon import Andon, LineState
from storage.query.answers import Region
from storage.query.products import ProductCounts

Picture = Literal["image", "live"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LiveView(_Answer):
    """One view of a part, as the live page shows it."""

    camera: str
    verdict: Judgement
    score: float | None
    review_above: float | None
    reject_above: float | None
    frame_width_px: int | None
    frame_height_px: int | None
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, view: View) -> Self:
        """Return a judged view as the live page shows it."""
        height_px, width_px = view.frame_shape[:2] if view.frame_shape else (None, None)
        return cls(
            camera=view.camera,
            verdict=view.verdict,
            score=view.score,
            review_above=view.review_above,
            reject_above=view.reject_above,
            frame_width_px=width_px,
            frame_height_px=height_px,
            regions=tuple(map(Region.model_validate, view.regions)),
        )


class LiveGate(_Answer):
    """What the gate was told and what the PLC saw."""

    command: GateCommand
    taken: bool  # the PLC took the command
    outcome: GateOutcome | None

    @classmethod
    def of(cls, report: GateReport) -> Self:
        """Return a gate report as the live page shows it."""
        return cls(command=report.command, taken=report.written_ns is not None, outcome=report.outcome)


class PartChange(_Answer):
    """What is new of a part; fields that are None have not changed."""

    part_id: str
    gate: LiveGate | None = None
    pictures: dict[str, Picture] | None = None  # camera -> purpose of the best image that there is


class LivePart(_Answer):
    """A part, as the live page shows it."""

    part_id: str
    sequence: int
    trigger_time: datetime
    product: str
    recipe: str
    recipe_version: int
    verdict: Judgement
    reasons: tuple[Reason, ...]
    trigger_to_verdict_ms: float
    views: tuple[LiveView, ...]
    command: GateCommand
    gate: LiveGate | None = None
    pictures: dict[str, Picture] = {}

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Return a part whose verdict has just come."""
        return cls(
            part_id=verdict.part_id,
            sequence=verdict.sequence,
            trigger_time=local(datetime.fromtimestamp(verdict.trigger_time_ns / 1e9, UTC)),
            product=verdict.product,
            recipe=verdict.recipe,
            recipe_version=verdict.recipe_version,
            verdict=verdict.verdict,
            reasons=verdict.reasons,
            trigger_to_verdict_ms=(verdict.judged_ns - verdict.trigger_ns) / 1e6,
            views=tuple(map(LiveView.of, verdict.views)),
            command=verdict.gate,
        )

    def changed(self, change: PartChange) -> Self:
        """Return the part with what is new."""
        update = {name: value for name in ("gate", "pictures") if (value := getattr(change, name)) is not None}
        return self.model_copy(update=update)


class Light(_Answer):
    """The andon light and why it shows what it shows."""

    state: LineState
    causes: tuple[str, ...]

    @classmethod
    def of(cls, light: Andon) -> Self:
        """Return the light as JSON has it."""
        return cls(state=light.state, causes=light.causes)


class LiveAlarm(_Answer):
    """A condition that is on."""

    event_id: str
    time: datetime
    service: str
    name: str
    severity: Severity
    detail: str

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return the condition that an event began."""
        return cls(
            event_id=event.event_id,
            time=local(datetime.fromtimestamp(event.time_ns / 1e9, UTC)),
            service=event.service,
            name=event.name,
            severity=event.severity,
            detail=event.detail,
        )


class Board(_Answer):
    """The present shift, and which alarms were acknowledged; as of `counted`."""

    shift: str
    began: datetime
    ends: datetime
    counted: datetime
    products: tuple[ProductCounts, ...]
    acknowledged: tuple[Acknowledgement, ...]


class Status(_Answer):
    """The station at this moment."""

    time: datetime
    light: Light
    run: str | None
    verdicts: dict[Judgement, int]  # of this run
    ejected: int
    passed: int
    unseen: int  # parts whose way at the gate the PLC did not report
    parts_per_minute: float
    latency_p50_ms: float | None  # trigger to verdict, of the last parts
    latency_p99_ms: float | None  # of the last 500
    latency_max_ms: float | None
    frames_waiting: int  # with all workers, for their batches
    credit: int  # frames that the workers would take at once beside them
    product: str | None  # of the last part
    recipe: str | None
    recipe_version: int | None
    backlog_bytes: int  # what PostgreSQL does not have yet; it is safe in the journal
    backlog_s: int  # for how long the oldest of it has waited
    alarms: tuple[LiveAlarm, ...]  # the newest first


class Snapshot(_Answer):
    """What a browser starts from."""

    status: Status
    board: Board | None  # None: not counted yet
    parts: tuple[LivePart, ...]  # oldest first


class ServiceHealth(_Answer):
    """The last word of a process."""

    service: str
    state: Literal["STARTING", "READY", "DEGRADED", "STOPPING", "SILENT"]
    detail: str
    counters: dict[str, int]


class HealthReport(_Answer):
    """Whether the station runs, process by process, and which of the console's own servers are away."""

    light: Light
    services: tuple[ServiceHealth, ...]
    redis: str | None = Field(description="why Redis is away; null while it answers")
    postgresql: str | None = Field(description="why PostgreSQL is away; null while it answers")
    browsers: int = Field(description="browsers that follow the live page now")
    browsers_dropped: int = Field(description="browsers that were too slow and were sent away, since the start")


class MapAnswer(_Answer):
    """A view's reduced anomaly map in 256 levels: score = low + level / 255 * (high - low)."""

    part_id: str
    camera: str
    width: int
    height: int
    low: float
    high: float
    review_above: float | None
    reject_above: float | None
    levels: str = Field(description="base64 of height x width bytes, row by row from the top left")


class Problem(_Answer):
    """Why a request was not answered."""

    detail: str


def local(moment: datetime) -> datetime:
    """Return a moment in the station's time zone: the line and its people share one clock."""
    return moment.astimezone()


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which `share` of `values` lie; None if there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None
