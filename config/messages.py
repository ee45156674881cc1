"""What crosses from one room to another: frozen headers, and payloads of raw bytes beside them.

A message is `[kind/version, JSON header, payload…]`. It is data, never code: a header that is not exactly what its
class says is refused. The headers are msgspec's structs, not pydantic's models: the same checks at a tenth of the
price, and the line makes and reads some for every frame (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, TypeVar, get_args

from msgspec import Meta, MsgspecError, Struct, json

from config.errors import MessageError

# whole numbers as wide as the database keeps them
Int16 = Annotated[int, Meta(ge=-(2**15), lt=2**15)]
Int32 = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
UnixNs = Count  # to the year 2262


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


class Fidelity(StrEnum):
    """How a view's pixels are kept; only EXACT gives the detector's score again."""

    NONE = "none"  # no crops either
    REDUCED = "reduced"  # JPEG, the longer side as the station's `image_side_px`
    FULL = "full"  # JPEG at full size
    EXACT = "exact"  # PNG, every pixel as the detector saw it


class Reason(StrEnum):
    """Why a verdict is what it is."""

    ABOVE_THRESHOLD = "ABOVE_THRESHOLD"
    GRAY_ZONE = "GRAY_ZONE"
    TOO_MANY_DEFECTS = "TOO_MANY_DEFECTS"  # none above the reject threshold, so many that the recipe rejects the part
    IN_ZONE = "IN_ZONE"  # beside another reason: it is so by the limits of a zone, not of the whole view
    TOO_FEW_VIEWS = "TOO_FEW_VIEWS"  # views reject, fewer than the recipe's `reject_views`
    LATE = "LATE"  # no prediction by the deadline
    OVERRUN = "OVERRUN"  # no free slot in the camera's ring
    UNREADABLE_FRAME = "UNREADABLE_FRAME"
    CAMERA_DOWN = "CAMERA_DOWN"  # the trigger came while its camera was away
    UNKNOWN_RECIPE = "UNKNOWN_RECIPE"
    WRONG_BUNDLE = "WRONG_BUNDLE"  # scored by another bundle than the recipe names
    WRONG_FRAME = "WRONG_FRAME"  # colours or size that the bundle does not take, or that a zone does not lie in
    NOT_FINITE = "NOT_FINITE"  # the score is NaN or infinite
    NOTHING_INSPECTED = "NOTHING_INSPECTED"  # ROI and exclusions leave nothing of the view
    STOPPED = "STOPPED"  # the part came while the station was told to take none, or was given up with the others


class PixelFormat(StrEnum):
    """How the bytes of a frame are to be read; a Bayer mosaic names the colours of its first two rows."""

    MONO8 = "mono8"
    BGR8 = "bgr8"
    BAYER_RGGB8 = "bayer_rggb8"
    BAYER_GRBG8 = "bayer_grbg8"
    BAYER_GBRG8 = "bayer_gbrg8"
    BAYER_BGGR8 = "bayer_bggr8"

    @property
    def channels(self) -> int:
        """How many bytes a pixel has."""
        return 3 if self is PixelFormat.BGR8 else 1

    @staticmethod
    def of(channels: int) -> PixelFormat:
        """Return what a camera means that gives `channels` bytes a pixel and says no more."""
        return PixelFormat.MONO8 if channels == 1 else PixelFormat.BGR8


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A field group; what it holds never leads back to it, so no search for garbage need look at it."""


class Message(Group, frozen=True, kw_only=True):
    """A header; `kind` names its class and version on the wire."""

    kind: ClassVar[str]


class Truth(Group, frozen=True, kw_only=True):
    """What a camera that plays known parts knows of one; real cameras know nothing."""

    good: bool
    defect: str | None = None
    source: str | None = None
    challenge: bool = False  # sent through to prove that the gate works


class Slot(Group, frozen=True, kw_only=True):
    """Where pixels lie in a ring; `generation` tells a reused slot from the one meant."""

    ring: str
    index: Count
    generation: Count


class Region(Group, frozen=True, kw_only=True):
    """A connected region of the anomaly map above threshold, in pixels of the frame."""

    x_px: Int32
    y_px: Int32
    width_px: Int32
    height_px: Int32
    area_px: Int32
    score: float


class Trigger(Message, frozen=True, kw_only=True):
    """A part is in front of the cameras (ingest → decision)."""

    kind: ClassVar[str] = "trigger/1"
    part_id: str
    sequence: Count
    station: str
    camera: str
    views: tuple[str, ...]
    recipe: str
    trigger_ns: Int64  # monotonic
    trigger_time_ns: UnixNs
    deadline_ns: Int64  # monotonic
    truth: Truth | None = None


class Loss(Message, frozen=True, kw_only=True):
    """One view of a part will never be predicted (ingest or inference → decision)."""

    kind: ClassVar[str] = "loss/1"
    part_id: str
    camera: str
    reason: Reason


class Frame(Message, frozen=True, kw_only=True):
    """One camera's image of a part (ingest → inference); payload: the pixels, unless they lie in a slot."""

    kind: ClassVar[str] = "frame/3"
    frame_id: str
    part_id: str
    camera: str
    recipe: str
    shape: tuple[Int32, Int32, Int16]  # (H, W, C) uint8; C as the pixel format says
    pixel_format: PixelFormat
    trigger_ns: Int64
    deadline_ns: Int64
    bundle: str | None = None  # digest of the one that is to judge it; None: the recipe pins none
    slot: Slot | None = None


class Credit(Message, frozen=True, kw_only=True):
    """How many frames a worker takes from one camera at a time (inference → ingest)."""

    kind: ClassVar[str] = "credit/2"
    worker: str
    capacity: Count
    shares_memory: bool
    bundles: tuple[str, ...] | None = None  # digests that it has open; None: it does not say
    sent_ns: Int64 = 0  # monotonic, the worker's; without shared memory a Clock is the answer


class Clock(Message, frozen=True, kw_only=True):
    """The time on a grabber's machine, for a worker on another one (ingest → inference), in answer to its Credit."""

    kind: ClassVar[str] = "clock/1"
    asked_ns: Int64  # monotonic, the worker's: when it had sent the Credit
    now_ns: Int64  # monotonic, the grabber's


class Bundles(Message, frozen=True, kw_only=True):
    """Which bundles a worker is to have open, by digest (ingest → inference), in answer to its Credit.

    Decision says so in its Job; of two that differ the one of the higher epoch, then revision, counts.
    """

    kind: ClassVar[str] = "bundles/1"
    epoch: int
    revision: Count
    wanted: tuple[str, ...]


class Holding(Message, frozen=True, kw_only=True):
    """Which bundles a worker has open, and which it cannot open and why (inference → decision)."""

    kind: ClassVar[str] = "holding/1"
    worker: str
    pid: Int32
    bundles: tuple[str, ...]
    opening: str | None = None
    refused: dict[str, str] = {}


class Answered(Message, frozen=True, kw_only=True):
    """Frames that a worker has answered for (inference → ingest)."""

    kind: ClassVar[str] = "answered/1"
    frame_ids: tuple[str, ...]


class Prediction(Group, frozen=True, kw_only=True):
    """Score of a frame, and the shape of its reduced anomaly map."""

    frame_id: str
    part_id: str
    camera: str
    score: float | None  # None: it is not finite
    map_shape: tuple[Int32, Int32]
    frame_shape: tuple[Int32, Int32, Int16]
    bundle_digest: str
    worker: str
    batch_size: Int32
    received_ns: Int64
    started_ns: Int64
    finished_ns: Int64


class Predictions(Message, frozen=True, kw_only=True):
    """The frames of a batch (inference → decision); payload: their anomaly maps of one shape, float32 `(N, h, w)`."""

    kind: ClassVar[str] = "predictions/1"
    each: tuple[Prediction, ...]


class Enlist(Message, frozen=True, kw_only=True):
    """A camera is alive and can be judged by so many workers (ingest → decision)."""

    kind: ClassVar[str] = "enlist/1"
    camera: str
    workers: Count


class Stamp(Group, frozen=True, kw_only=True):
    """By which bundle each camera's view is judged of parts whose sequence is below `before`; None: of all others."""

    before: Count | None = None
    bundles: dict[str, str]  # camera -> digest; a view that pins none is not among them


class Job(Message, frozen=True, kw_only=True):
    """The recipe that counts from now on (decision → ingest); a new `epoch` is a restarted decision stage.

    The first of `stamps` that a part's sequence is below says its bundles: so all cameras change at the same part.
    """

    kind: ClassVar[str] = "job/2"
    epoch: int
    recipe: str
    deadline_ms: int
    stamps: tuple[Stamp, ...] = ()
    revision: Count = 0  # of what follows
    bundles: tuple[str, ...] = ()  # that parts are judged by: a worker without one of them gets no frame
    wanted: tuple[str, ...] = ()  # that workers are to open besides

    def bundle(self, camera: str, sequence: int) -> str | None:
        """Return the digest of the bundle that judges a view; None where the recipe pins none."""
        for stamp in self.stamps:
            if stamp.before is None or sequence < stamp.before:
                return stamp.bundles.get(camera)
        return None


class Expose(Message, frozen=True, kw_only=True):
    """The PLC has triggered a part: take its picture now (decision → ingest)."""

    kind: ClassVar[str] = "expose/2"
    part_id: str
    sequence: Count
    recipe: str
    trigger_ns: Int64  # monotonic
    trigger_time_ns: UnixNs
    deadline_ns: Int64  # monotonic
    bundles: dict[str, str] = {}  # camera -> digest, as in a Stamp


class View(Group, frozen=True, kw_only=True):
    """How one view of a part was judged."""

    camera: str
    verdict: Judgement
    reasons: tuple[Reason, ...] = ()
    score: float | None = None
    review_above: float | None = None
    reject_above: float | None = None
    bundle_digest: str | None = None
    frame_shape: tuple[Int32, Int32, Int16] | None = None
    map_shape: tuple[Int32, Int32] | None = None
    regions: Annotated[tuple[Region, ...], Meta(max_length=2**15 - 1)] = ()
    worker: str | None = None
    batch_size: Int32 | None = None
    received_ns: Int64 | None = None
    started_ns: Int64 | None = None
    finished_ns: Int64 | None = None


class Verdict(Message, frozen=True, kw_only=True):
    """The one judgement of a part (decision → ingest, storage); payload: a float16 map for each view that has one."""

    kind: ClassVar[str] = "verdict/1"
    part_id: str
    sequence: Count
    station: str
    line: str
    recipe: str
    recipe_version: Int32
    recipe_digest: str | None  # of its content; None where the station knows no such recipe
    product: str
    verdict: Judgement
    reasons: tuple[Reason, ...]
    views: tuple[View, ...]
    gate: GateCommand
    trigger_ns: Int64
    trigger_time_ns: UnixNs
    deadline_ns: Int64
    judged_ns: Int64
    pixels: Fidelity = Fidelity.NONE  # what the recipe that judged it keeps of this part's views
    truth: Truth | None = None

    @property
    def record_id(self) -> str:
        """Name the record; the same verdict delivered twice has the same name."""
        return f"verdict:{self.part_id}"


class GateReport(Message, frozen=True, kw_only=True):
    """What became of a gate command (decision → storage), once per part."""

    kind: ClassVar[str] = "gate-report/1"
    part_id: str
    trigger_time_ns: UnixNs
    command: GateCommand
    written_ns: Int64 | None  # when the PLC had taken the command; None: it never did
    outcome: GateOutcome | None  # None: the PLC reported none in time
    reported_ns: Int64

    @property
    def record_id(self) -> str:
        """Name the record."""
        return f"gate:{self.part_id}"


Purpose = Literal["image", "crop", "live"]


class Evidence(Message, frozen=True, kw_only=True):
    """A picture of a part (ingest → storage); payload: its bytes. `live` ones are for the live page alone."""

    kind: ClassVar[str] = "evidence/1"
    part_id: str
    trigger_time_ns: UnixNs
    camera: str
    purpose: Purpose
    region: Int16 | None  # index into the view's regions, for a crop
    encoding: Literal["jpeg", "png"] = "jpeg"  # png keeps every pixel as the detector saw it
    width_px: Int32
    height_px: Int32

    @property
    def record_id(self) -> str:
        """Name the record."""
        return f"evidence:{self.part_id}:{self.camera}:{self.purpose}:{self.region}"


class Event(Message, frozen=True, kw_only=True):
    """Something that people should know of (any → storage); of a condition, its begin and its end."""

    kind: ClassVar[str] = "event/1"
    event_id: str
    time_ns: UnixNs
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


class Recorded(Message, frozen=True, kw_only=True):
    """Records that are on disk and need not be sent again (storage → their sender)."""

    kind: ClassVar[str] = "recorded/1"
    record_ids: tuple[str, ...]
    journalled_ns: Int64  # monotonic: when they were on disk


class Appearance(Message, frozen=True, kw_only=True):
    """What some images of one camera and product looked like, summed since the last one (inference → storage)."""

    kind: ClassVar[str] = "appearance/1"
    service: str
    station: str
    camera: str
    product: str
    time_ns: UnixNs
    frames: Count
    brightness_sum: float  # of mean gray values, 0 to 255
    brightness_squares: float
    focus_sum: float  # of variances of the Laplacian
    focus_squares: float

    @property
    def record_id(self) -> str:
        """Name the record."""
        return f"appearance:{self.service}:{self.camera}:{self.product}:{self.time_ns}"


State = Literal["STARTING", "READY", "DEGRADED", "STOPPING"]


class Health(Message, frozen=True, kw_only=True):
    """State and counters of one process (all → storage, console)."""

    kind: ClassVar[str] = "health/1"
    service: str
    state: State
    detail: str = ""
    pid: int
    time_ns: UnixNs
    counters: dict[str, int]


class Activate(Message, frozen=True, kw_only=True):
    """A person wants parts to be judged by this recipe from now on (command, console → decision); None: only asks."""

    kind: ClassVar[str] = "activate/1"
    recipe: str | None
    by: str


class Adopt(Message, frozen=True, kw_only=True):
    """A person wants this content of a recipe in force (console → decision); payload: the content, as UTF-8.

    It counts unless another content than `based_on` (a digest) is in force by then. It gets a version of its own,
    unless it was in force before. The answer is Recipes.
    """

    kind: ClassVar[str] = "adopt/1"
    recipe: str
    based_on: str
    by: str


class RecipeLine(Group, frozen=True, kw_only=True):
    """A recipe of the station in the version that is in force."""

    name: str
    product: str
    job: int
    version: int
    digest: str
    refused: str | None = None  # why its file, as it is now, is not taken


class Recipes(Message, frozen=True, kw_only=True):
    """The station's recipes and the one that counts (decision → command, console)."""

    kind: ClassVar[str] = "recipes/1"
    active: str | None  # None: the PLC asks for a job that the station does not know
    plc_job: int  # that the PLC asks for, and then nobody else chooses; 0: none
    recipes: tuple[RecipeLine, ...]
    problem: str | None = None  # why what was asked for was not done


class Mode(StrEnum):
    """How far the station may go: to the end, unless a client of the OPC UA server has ordered otherwise.

    The names are those of OPC 40100-1's states.
    """

    CONTINUOUS = "ContinuousExecution"  # every part that is triggered is judged
    SINGLE = "SingleExecution"  # the next one is
    READY = "Ready"  # none is
    INITIALIZED = "Initialized"  # none is, and no recipe is prepared
    PREOPERATIONAL = "Preoperational"
    HALTED = "Halted"


class Standing(Message, frozen=True, kw_only=True):
    """How the station stands and by what it judges (decision → whoever looks on, such as the OPC UA server)."""

    kind: ClassVar[str] = "standing/1"
    state: State  # DEGRADED: something is wrong; that the mode stops it is not
    detail: str = ""
    recipe: str | None  # None: no recipe is prepared, or the PLC asks for a job that the station does not know
    mode: Mode = Mode.CONTINUOUS
    order: Count = 0  # how many orders were carried out in this run; `method` is the last one's
    method: str = ""


Method = Literal[  # of OPC 40100-1
    "Halt",
    "Reset",
    "SelectModeAutomatic",
    "StartSingleJob",
    "StartContinuous",
    "Stop",
    "Abort",
    "PrepareRecipe",
    "PrepareProduct",
    "UnprepareRecipe",
    "UnprepareProduct",
]


class Control(Message, frozen=True, kw_only=True):
    """A client of the OPC UA server, who may, calls a method of OPC 40100-1 (OPC UA server → decision)."""

    kind: ClassVar[str] = "control/1"
    order_id: str
    method: Method
    who: str
    detail: str = ""  # what the client says of it
    recipe: str | None = None  # that it is about


class Controlled(Message, frozen=True, kw_only=True):
    """What became of a `Control`: carried out, with all that follows from it, or refused (decision → OPC UA server)."""

    kind: ClassVar[str] = "controlled/1"
    order_id: str
    refused: Literal["", "STATE", "JOB", "RECIPE"]
    standing: Standing


AnyMessage = (
    Trigger
    | Loss
    | Frame
    | Credit
    | Clock
    | Bundles
    | Holding
    | Answered
    | Predictions
    | Enlist
    | Job
    | Expose
    | Verdict
    | GateReport
    | Evidence
    | Event
    | Recorded
    | Appearance
    | Health
    | Standing
    | Activate
    | Adopt
    | Recipes
    | Control
    | Controlled
)
Buffer = bytes | memoryview
Made = TypeVar("Made", bound=Group)
_MALFORMED = (MsgspecError, UnicodeDecodeError, RecursionError)
_ENCODER = json.Encoder()
_DECODERS: dict[bytes, json.Decoder[AnyMessage]] = {
    message.kind.encode(): json.Decoder(message) for message in get_args(AnyMessage)
}


def as_json(group: Group) -> bytes:
    """Return a header, or what is made of the same stuff, as it stands on the wire."""
    return _ENCODER.encode(group)


def from_json(kind: type[Made], content: bytes) -> Made:
    """Read what `as_json` has written; raise MessageError if it is anything else."""
    try:
        return json.decode(content, type=kind)
    except _MALFORMED as error:
        raise MessageError(f"{kind.__name__}: {error}") from error


def encode(message: AnyMessage, payload: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the parts of a multipart message."""
    return [message.kind.encode(), as_json(message), *payload]


def decode(parts: Sequence[bytes]) -> tuple[AnyMessage, list[bytes]]:
    """Return the header and the payload; raise MessageError if the parts are no message that we know."""
    if len(parts) < 2:  # noqa: PLR2004 - kind and header
        raise MessageError(f"message of {len(parts)} part(s): expected kind, header and payload")
    decoder = _DECODERS.get(parts[0])
    if decoder is None:
        known = ", ".join(sorted(kind.decode() for kind in _DECODERS))
        raise MessageError(f"unknown message kind {bytes(parts[0])[:40]!r}: known are {known}")
    try:
        return decoder.decode(parts[1]), list(parts[2:])
    except _MALFORMED as error:
        raise MessageError(f"{decoder.type.kind}: {error}") from error
