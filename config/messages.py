"""What crosses from one room to another: frozen headers, and payloads of raw bytes beside them.

A message is `[kind/version, JSON header, payload…]`. It is data, never code: a header that is not exactly what its
class says is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.errors import MessageError


class Judgement(StrEnum):
    """The four verdicts."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    REJECT = "REJECT"
    REVIEW = "REVIEW"
    FAULT = "FAULT"


class GateCommand(StrEnum):
    """What the gate is told; at rest it ejects. STOP ejects and asks the PLC to stop the line."""

    PASS = "PASS"  # noqa: S105 - a gate command, not a password
    REJECT = "REJECT"
    STOP = "STOP"


class GateOutcome(StrEnum):
    """What the PLC saw at the gate."""

    PASSED = "PASSED"
    EJECTED = "EJECTED"


class Reason(StrEnum):
    """Why a verdict is what it is."""

    ABOVE_THRESHOLD = "ABOVE_THRESHOLD"
    GRAY_ZONE = "GRAY_ZONE"
    LATE = "LATE"  # no prediction by the deadline
    OVERRUN = "OVERRUN"  # no free slot in the camera's ring
    UNREADABLE_FRAME = "UNREADABLE_FRAME"
    CAMERA_DOWN = "CAMERA_DOWN"  # the trigger came while its camera was away
    UNKNOWN_RECIPE = "UNKNOWN_RECIPE"
    WRONG_BUNDLE = "WRONG_BUNDLE"  # scored by another bundle than the recipe names
    WRONG_FRAME = "WRONG_FRAME"  # colours or size that the bundle does not take
    NOT_FINITE = "NOT_FINITE"  # the score is NaN or infinite


class Message(BaseModel):
    """A header; `kind` names its class and version on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]


class Group(BaseModel):
    """A field group that is no message of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Truth(Group):
    """What a camera that plays known parts knows of one; real cameras know nothing."""

    good: bool
    defect: str | None = None
    source: str | None = None
    challenge: bool = False  # sent through to prove that the gate works


class Slot(Group):
    """Where pixels lie in a ring; `generation` tells a reused slot from the one meant."""

    ring: str
    index: int = Field(ge=0)
    generation: int = Field(ge=0)


class Region(Group):
    """A connected region of the anomaly map above threshold, in pixels of the frame."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    score: float


class Trigger(Message):
    """A part is in front of the cameras (ingest → decision)."""

    kind: ClassVar[str] = "trigger/1"
    part_id: str
    sequence: int = Field(ge=0)
    station: str
    camera: str
    views: tuple[str, ...]
    recipe: str
    trigger_ns: int  # monotonic
    trigger_time_ns: int  # Unix
    deadline_ns: int  # monotonic
    truth: Truth | None = None


class Loss(Message):
    """One view of a part will never be predicted (ingest or inference → decision)."""

    kind: ClassVar[str] = "loss/1"
    part_id: str
    camera: str
    reason: Reason


class Frame(Message):
    """One camera's image of a part (ingest → inference); payload: the pixels, unless they lie in a slot."""

    kind: ClassVar[str] = "frame/1"
    frame_id: str
    part_id: str
    camera: str
    recipe: str
    shape: tuple[int, int, int]  # (H, W, C) uint8; C is 1 (mono) or 3 (BGR)
    trigger_ns: int
    deadline_ns: int
    slot: Slot | None = None


class Credit(Message):
    """How many frames a worker takes from one camera at a time (inference → ingest)."""

    kind: ClassVar[str] = "credit/1"
    worker: str
    capacity: int = Field(ge=0)
    shares_memory: bool


class Answered(Message):
    """Frames that a worker has answered for (inference → ingest)."""

    kind: ClassVar[str] = "answered/1"
    frame_ids: tuple[str, ...]


class Prediction(Message):
    """Score and reduced anomaly map of a frame (inference → decision); payload: the map, float32 `(h, w)`."""

    kind: ClassVar[str] = "prediction/1"
    frame_id: str
    part_id: str
    camera: str
    score: float
    map_shape: tuple[int, int]
    frame_shape: tuple[int, int, int]
    bundle_digest: str
    worker: str
    batch_size: int
    received_ns: int
    started_ns: int
    finished_ns: int


class Enlist(Message):
    """A camera is alive and can be judged by so many workers (ingest → decision)."""

    kind: ClassVar[str] = "enlist/1"
    camera: str
    workers: int = Field(ge=0)


class Job(Message):
    """The recipe that counts from now on (decision → ingest); a new `epoch` is a restarted decision stage."""

    kind: ClassVar[str] = "job/1"
    epoch: int
    recipe: str
    deadline_ms: int


class View(Group):
    """How one view of a part was judged."""

    camera: str
    verdict: Judgement
    reasons: tuple[Reason, ...] = ()
    score: float | None = None
    review_above: float | None = None
    reject_above: float | None = None
    bundle_digest: str | None = None
    frame_shape: tuple[int, int, int] | None = None
    map_shape: tuple[int, int] | None = None
    regions: tuple[Region, ...] = ()
    worker: str | None = None
    batch_size: int | None = None
    received_ns: int | None = None
    started_ns: int | None = None
    finished_ns: int | None = None


class Verdict(Message):
    """The one judgement of a part (decision → ingest, storage); payload: a float16 map for each view that has one."""

    kind: ClassVar[str] = "verdict/1"
    part_id: str
    sequence: int
    station: str
    line: str
    recipe: str
    recipe_version: int
    recipe_digest: str | None  # of its content; None where the station knows no such recipe
    product: str
    verdict: Judgement
    reasons: tuple[Reason, ...]
    views: tuple[View, ...]
    gate: GateCommand
    trigger_ns: int
    trigger_time_ns: int
    deadline_ns: int
    judged_ns: int
    truth: Truth | None = None

    @property
    def record_id(self) -> str:
        """Name the record; the same verdict delivered twice has the same name."""
        return f"verdict:{self.part_id}"


class GateReport(Message):
    """What became of a gate command (decision → storage), once per part."""

    kind: ClassVar[str] = "gate-report/1"
    part_id: str
    trigger_time_ns: int  # Unix
    command: GateCommand
    written_ns: int | None  # when the PLC had taken the command; None: it never did
    outcome: GateOutcome | None  # None: the PLC reported none in time
    reported_ns: int

    @property
    def record_id(self) -> str:
        """Name the record."""
        return f"gate:{self.part_id}"


class Evidence(Message):
    """A picture of a part (ingest → storage); payload: its bytes. `live` ones are for the live page alone."""

    kind: ClassVar[str] = "evidence/1"
    part_id: str
    trigger_time_ns: int  # Unix
    camera: str
    purpose: Literal["image", "crop", "live"]
    region: int | None  # index into the view's regions, for a crop
    encoding: Literal["jpeg", "png"] = "jpeg"  # png keeps every pixel as the detector saw it
    width_px: int
    height_px: int

    @property
    def record_id(self) -> str:
        """Name the record."""
        return f"evidence:{self.part_id}:{self.camera}:{self.purpose}:{self.region}"


class Event(Message):
    """Something that people should know of (any → storage); of a condition, its begin and its end."""

    kind: ClassVar[str] = "event/1"
    event_id: str
    time_ns: int  # Unix
    station: str
    service: str
    name: str
    severity: Literal["INFO", "WARNING", "ALARM"]
    state: Literal["BEGAN", "ENDED", "HAPPENED"]
    detail: str = ""

    @property
    def record_id(self) -> str:
        """Name the record."""
        return f"event:{self.event_id}"


class Recorded(Message):
    """Records that are on disk and need not be sent again (storage → their sender)."""

    kind: ClassVar[str] = "recorded/1"
    record_ids: tuple[str, ...]
    journalled_ns: int  # monotonic: when they were on disk


class Health(Message):
    """State and counters of one process (all → storage, console)."""

    kind: ClassVar[str] = "health/1"
    service: str
    state: Literal["STARTING", "READY", "DEGRADED", "STOPPING"]
    detail: str = ""
    pid: int
    time_ns: int  # Unix
    counters: dict[str, int]


AnyMessage = (
    Trigger
    | Loss
    | Frame
    | Credit
    | Answered
    | Prediction
    | Enlist
    | Job
    | Verdict
    | GateReport
    | Evidence
    | Event
    | Recorded
    | Health
)
_KINDS: dict[bytes, type[AnyMessage]] = {
    message.kind.encode(): message
    for message in (
        Trigger,
        Loss,
        Frame,
        Credit,
        Answered,
        Prediction,
        Enlist,
        Job,
        Verdict,
        GateReport,
        Evidence,
        Event,
        Recorded,
        Health,
    )
}


def encode(message: AnyMessage, payload: Sequence[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """Return the parts of a multipart message."""
    return [message.kind.encode(), message.model_dump_json().encode(), *payload]


def decode(parts: Sequence[bytes]) -> tuple[AnyMessage, list[bytes]]:
    """Return the header and the payload; raise MessageError if the parts are no message that we know."""
    if len(parts) < 2:  # noqa: PLR2004 - kind and header
        raise MessageError(f"message of {len(parts)} part(s): expected kind, header and payload")
    header = _KINDS.get(bytes(parts[0]))
    if header is None:
        known = ", ".join(sorted(kind.decode() for kind in _KINDS))
        raise MessageError(f"unknown message kind {bytes(parts[0])[:40]!r}: known are {known}")
    try:
        return header.model_validate_json(parts[1]), list(parts[2:])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "header"
        raise MessageError(f"{header.kind}: {where}: {first['msg']}") from error
