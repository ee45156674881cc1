"""Stations: one inspection point's cameras, workers, PLC and recipes, in one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from config import files, gates, recipe, shifts
from config.errors import ConfigurationError
from config.gates import BeltSection, EncoderSection, GateSection, IoSection
from config.oidc import OidcSection, is_loopback
from config.recipe import Recipe
from config.shifts import Shift

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:%_-]{0,252}$")]  # a name in ASCII, or an address
Address = Annotated[str, Field(pattern=r"^(tcp|ipc)://\S+$")]  # of the bus
_A_DAY_S = 86_400.0  # longer than this nothing lasts on a simulated line
_LAST_PORT = 65_535


class Section(BaseModel):
    """A table of the station file; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraSection(Section):
    """One camera: `type` names the file in `ingest/cameras`, `options` are that file's."""

    name: str = Field(pattern=_NAME)
    type: str
    slots: int = Field(default=32, ge=2, le=4096)  # frames that the ring holds
    options: dict[str, object] = {}


class WorkersSection(Section):
    """The inference workers of this machine; those of other machines connect to `listen` (`andon worker`).

    `listen` is the first of as many consecutive ports as the station has cameras, and two.
    """

    count: int = Field(default=1, ge=0, le=64)
    threads: int = Field(default=1, ge=1, le=256)  # of one worker's session
    buckets: tuple[int, ...] = (1, 2, 4, 8)  # batch sizes that are warmed before READY
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda:\d+|tensorrt:\d+|openvino:cpu)$")
    precision: Literal["f32", "bf16", "f16"] = "f32"
    listen: str | None = Field(default=None, pattern=r"^tcp://[^\s/]+:\d{1,5}$")

    @model_validator(mode="after")
    def _somebody_works(self) -> Self:
        if not self.count and self.listen is None:
            raise ValueError("count 0 needs listen: else no worker could ever judge a part")
        return self

    @model_validator(mode="after")
    def _buckets_rise(self) -> Self:
        if not self.buckets or self.buckets[0] < 1 or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets must be rising batch sizes from 1 on, such as [1, 2, 4, 8], not {self.buckets}")
        return self


class PlcSection(Section):
    """The PLC: `type` names the file in `decision/plc`, `options` are that file's.

    With trigger "plc" the PLC leads: it triggers each part by its number and acknowledges each result.
    """

    type: str
    trigger: Literal["camera", "plc"] = "camera"
    heartbeat_lost_ms: int = Field(default=500, ge=200, le=10_000)  # its heartbeat may stand so long
    options: dict[str, object] = {}


class DecisionSection(Section):
    """How the decision process runs: `realtime_priority` is that of SCHED_FIFO, 0: as any other process.

    Its threads that drive a device run one step above it.
    """

    realtime_priority: int = Field(default=0, ge=0, le=98)


class SimulationSection(Section):
    """The world of a station without hardware: parts on a belt that does not wait for anybody.

    Simulated cameras and the PLC simulator share it, each reading the clock for itself. `products` are names of
    recipes; with more than one, the line changes over after every `changeover_every_parts`.
    """

    rate_per_s: float = Field(default=10.0, ge=0.001, le=1000)  # at full speed
    products: tuple[str, ...] = Field(min_length=1)
    changeover_every_parts: int = Field(default=0, ge=0)
    changeover_pause_s: float = Field(default=1.0, ge=0, le=_A_DAY_S)
    challenge_every_parts: int = Field(default=0, ge=0)  # every so many parts a known-bad one proves the gate; 0: never
    gate_travel_s: float = Field(default=2.0, ge=0.001, le=_A_DAY_S)  # from the cameras to the gate, at full speed
    slowest_speed: float = Field(default=1.0, ge=0.05, le=1)  # share of full speed; the belt's is random, above this
    speed_change_s: float = Field(default=2.0, ge=0.001, le=_A_DAY_S)  # on average so long after another, at full speed
    longest_stop_s: float = Field(default=0.0, ge=0, le=_A_DAY_S)  # the belt stands at times, so long at most; 0: never
    restart_after_s: float = Field(default=5.0, ge=0.1, le=_A_DAY_S)  # after the station asks for a stop
    parts_log: bool = False  # the PLC writes a line for each part at the gate to home/plc_parts.csv
    seed: int = 0


class ReportSection(Section):
    """To whom the station reports: `type` names the file in `storage/reports`, `options` are that file's."""

    type: str
    options: dict[str, object] = {}


class ConsoleSection(Section):
    """Where the operator's page is served.

    `url` is how browsers reach it where a server stands before it that speaks TLS; then cookies are sent by TLS alone,
    and that server's `X-Forwarded-For` is believed: let `host` be an address that nobody else reaches.
    """

    host: Host = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)  # 0: any that is free
    four_eyes: bool = False  # a proposal of a recipe's next version is approved by another person than made it
    url: str | None = Field(default=None, pattern=r"^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$")
    oidc: OidcSection | None = None

    @model_validator(mode="after")
    def _the_provider_sends_people_back(self) -> Self:
        if self.oidc is not None and self.url is None and not is_loopback(self.host):
            raise ValueError("oidc needs url: the address that the provider sends people back to")
        return self


class SampleSection(Section):
    """Which share of the parts of each verdict reviewers are given, of those that a picture is kept of."""

    PASS: float = Field(default=0.1, ge=0, le=1)
    REVIEW: float = Field(default=1.0, ge=0, le=1)
    REJECT: float = Field(default=0.1, ge=0, le=1)
    FAULT: float = Field(default=0.1, ge=0, le=1)


class ReviewSection(Section):
    """What people look at after the line has judged it (`storage/sampling.py`)."""

    sample: SampleSection = SampleSection()


class OpcuaSection(Section):
    """Where the station is an OPC UA server of its own (OPC 40100-1); `decision/vision`, needs the extra `opcua`.

    With a certificate every message is signed and encrypted (Basic256Sha256). Whoever reaches it may look; only
    `controllers` may call the methods that control the station, by the certificates that they connect with.
    """

    host: Host = "127.0.0.1"
    port: int = Field(default=4841, ge=1, le=65535)
    certificate: Path | None = None  # PEM or DER
    private_key: Path | None = None
    controllers: dict[Annotated[str, Field(pattern=_NAME)], Path] = {}  # who -> certificate, PEM or DER

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        if self.controllers and self.certificate is None:
            raise ValueError(
                "controllers are known by their certificates: the station needs certificate and private_key"
            )
        return self


class ImagesSection(Section):
    """Where image bytes lie: in the database, or where `type` names the file in `storage/stores`; `options` are its."""

    type: str = "database"
    options: dict[str, object] = {}

    @model_validator(mode="after")
    def _the_database_has_no_options(self) -> Self:
        if self.type == "database" and self.options:
            raise ValueError('options belong to a store: type "database" has none')
        return self


class ImagesDays(Section):
    """How many days images and anomaly maps are kept, by verdict; CHALLENGE: of a challenge part, whatever it got."""

    PASS: int = Field(default=14, ge=1, le=36500)
    REJECT: int = Field(default=180, ge=1, le=36500)
    REVIEW: int = Field(default=180, ge=1, le=36500)
    FAULT: int = Field(default=60, ge=1, le=36500)
    CHALLENGE: int = Field(default=365, ge=1, le=36500)


class RowsDays(Section):
    """How many days the rest of what is known of a part is kept, in the same way."""

    PASS: int = Field(default=365, ge=1, le=36500)
    REJECT: int = Field(default=1095, ge=1, le=36500)
    REVIEW: int = Field(default=1095, ge=1, le=36500)
    FAULT: int = Field(default=365, ge=1, le=36500)
    CHALLENGE: int = Field(default=1825, ge=1, le=36500)


class RetentionSection(Section):
    """When parts are removed: after so many days, or earlier where a bound is passed (`storage/retention/plan.py`)."""

    images_days: ImagesDays = ImagesDays()
    rows_days: RowsDays = RowsDays()
    events_days: int = Field(default=1095, ge=1, le=36500)
    database_limit_mb: int | None = Field(default=None, ge=1)  # None: no bound
    images_limit_mb: int | None = Field(default=None, ge=1)  # of this station's packs in a store
    free_disk_mb: int = Field(default=2000, ge=0)  # of the embedded database's disk, and of a store's

    @model_validator(mode="after")
    def _images_go_first(self) -> Self:
        for name in ImagesDays.model_fields:
            images, rows = getattr(self.images_days, name), getattr(self.rows_days, name)
            if images > rows:
                raise ValueError(
                    f"images_days.{name} ({images}) must not be above rows_days.{name} ({rows}): "
                    "an image is found by its part"
                )
        return self


class StorageSection(Section):
    """What is kept, and where it ends."""

    journal_limit_mb: int = Field(default=1024, ge=1)
    free_disk_mb: int = Field(default=200, ge=0)  # below this nothing more is journalled
    journal_bound: Literal["stop", "shed"] = "stop"  # at the bound no part is judged; shed: pictures give way before
    image_side_px: int = Field(default=256, ge=32, le=4096)  # longer side of a reduced image
    live_images_per_s: float = Field(default=4.0, ge=0, le=100)
    images: ImagesSection = ImagesSection()
    retention: RetentionSection = RetentionSection()


class Station(Section):
    """One inspection point."""

    station: str = Field(pattern=_NAME)
    line: str = Field(default="1", pattern=_NAME)
    recipes: dict[str, Path] = Field(min_length=1)  # name -> file
    recipe: str  # the one that counts until the PLC names a job
    cameras: tuple[CameraSection, ...] = Field(min_length=1)
    workers: WorkersSection = WorkersSection()
    plc: PlcSection | None = None
    io: IoSection | None = None
    encoder: EncoderSection | None = None
    belt: BeltSection | None = None
    gates: tuple[GateSection, ...] = ()  # that the station drives itself; without any, the PLC does
    decision: DecisionSection = DecisionSection()
    simulation: SimulationSection | None = None
    console: ConsoleSection = ConsoleSection()
    shifts: tuple[Shift, ...] = shifts.DEFAULT
    report: ReportSection | None = None
    review: ReviewSection = ReviewSection()
    opcua: OpcuaSection | None = None
    storage: StorageSection = StorageSection()
    endpoints: dict[str, Address] = {}  # bus endpoint -> address, where it is not on this machine
    bus_keys: Path | None = None  # a file of `config/curve.py`; then every connection of the bus is encrypted

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        cameras = [camera.name for camera in self.cameras]
        if len(set(cameras)) != len(cameras):
            raise ValueError(f"cameras: names must differ, not {', '.join(cameras)}")
        wanted = [self.recipe, *(self.simulation.products if self.simulation else ())]
        for name in wanted:
            if name not in self.recipes:
                raise ValueError(f"recipe {name!r:.80} is not among recipes: {', '.join(self.recipes)}")
        if self.workers.listen is not None:
            first = int(self.workers.listen.rpartition(":")[2])
            if not 1 <= first <= _LAST_PORT - len(cameras) - 1:
                raise ValueError(
                    f"workers.listen: needs {len(cameras) + 2} ports from {first} on, one for each camera and two: "
                    f"they must lie between 1 and {_LAST_PORT}"
                )
        return self

    @model_validator(mode="after")
    def _shifts_differ(self) -> Self:
        shifts.check(self.shifts)
        return self

    @model_validator(mode="after")
    def _something_ejects(self) -> Self:
        if self.plc is None and not self.gates:
            raise ValueError("neither a [plc] table nor [[gates]]: nothing would eject a part")
        gates.check(self.gates, self.io, self.encoder, self.belt)
        return self

    def remote_endpoints(self) -> dict[str, str]:
        """Return the addresses that workers of other machines connect to, by bus endpoint; none without `listen`."""
        if self.workers.listen is None:
            return {}
        host, _, port = self.workers.listen.rpartition(":")
        names = ("predictions", "health", *(f"camera.{camera.name}" for camera in self.cameras))
        return {name: f"{host}:{int(port) + number}" for number, name in enumerate(names)}

    def read_recipes(self) -> dict[str, Recipe]:
        """Read all recipes; raise ConfigurationError for any fault, also for a job number used twice."""
        found = {name: recipe.read(path) for name, path in self.recipes.items()}
        jobs: dict[int, str] = {}
        cameras = {section.name for section in self.cameras}
        for name, one in found.items():
            if one.job in jobs:
                raise ConfigurationError(f"recipes {jobs[one.job]!r} and {name!r} are both job {one.job}")
            jobs[one.job] = name
            for camera in sorted(set(one.views) - cameras):
                raise ConfigurationError(f"{self.recipes[name]}: views.{camera}: the station has no such camera")
        return found


def read(path: Path) -> Station:
    """Read a station file; paths become absolute; raise ConfigurationError for any fault."""
    station = files.read(path, Station)
    # not resolved: where a link is turned to another file, the recipe has changed
    recipes = {name: (path.parent / file).absolute() for name, file in station.recipes.items()}
    update: dict[str, object] = {"recipes": recipes}
    section = station.opcua
    if section and section.certificate and section.private_key:
        files_of = {
            "certificate": (path.parent / section.certificate).absolute(),
            "private_key": (path.parent / section.private_key).absolute(),
            "controllers": {who: (path.parent / file).absolute() for who, file in section.controllers.items()},
        }
        update["opcua"] = section.model_copy(update=files_of)
    if station.bus_keys:
        update["bus_keys"] = (path.parent / station.bus_keys).absolute()
    return station.model_copy(update=update)
