"""A station whose parts are judged by their truth, its storage process and its console, for tests of the console.

What the console shows has gone the real way: rendered parts, couriers, the storage process, PostgreSQL and Redis.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cached_property

import cv2
import numpy as np
import signed_in
import zmq
from live_servers import Servers
from msgspec.structs import replace
from storage_process import RUN, Storage, storage

from config import bus
from config.messages import (
    Fidelity,
    GateCommand,
    GateOutcome,
    GateReport,
    Health,
    Judgement,
    Reason,
    State,
    Verdict,
    View,
)
from config.recipe import Limits, Recipe, ViewRecipe
from config.station import CameraSection, ConsoleSection, PlcSection, Station, StorageSection
from decision import defects
from decision.zones import Cells
from ingest.evidence import Judged, pictures
from ingest.parts.defects import Defect
from ingest.parts.product import Side
from ingest.parts.rendering import render

CAMERAS = ("bottom", "top")
REVIEW_ABOVE, REJECT_ABOVE = 1.6, 2.0
LIMITS = Limits(None, REVIEW_ABOVE, REJECT_ABOVE, minimum_area_px=0, reject_from_defects=None)
EVERYWHERE = Cells(None, None)
DIGEST = "sha256:" + "5f" * 32
_SIDE_PX = 320
_CELLS = 32
_MS = 1_000_000


class Line:
    """Parts of a line, one after the other, as decision and cameras would tell storage of them."""

    def __init__(self, storage_: Storage, station: Station) -> None:
        self._sender = storage_.sender()
        self._health = self._sender.bus.connect(zmq.PUSH, storage_.home.endpoint("health"))
        self._station = station
        self._speaking = threading.Lock()
        self.sequence = 0
        self.kept = Fidelity.REDUCED  # of parts that did not pass
        self.states: dict[str, Health] = {}
        self.say(*(f"camera-{camera}" for camera in CAMERAS), "worker-0", "decision")

    def say(self, *services: str, state: State = "READY", detail: str = "") -> None:
        """Let processes say how they are, from now on."""
        for service in services:
            self.states[service] = Health(service=service, state=state, detail=detail, pid=1, time_ns=0, counters={})
        self.beat()

    def fall_silent(self, service: str) -> None:
        """Let a process say no more."""
        del self.states[service]

    def beat(self) -> None:
        """Send every process's health once; any thread may."""
        with self._speaking:
            for health in list(self.states.values()):
                bus.send(self._health, replace(health, time_ns=time.time_ns()))

    def part(self, judgement: Judgement, product: str = "bracket", *, age_s: float = 0, seen: bool = True) -> str:
        """Send one part with its pictures and its gate report, wait until they are journalled, return its id."""
        self.sequence += 1
        rng = np.random.default_rng(self.sequence)
        views, maps, frames = [], [], []
        for camera in CAMERAS:
            view, anomaly_map, pixels = _view(camera, judgement, product, self.sequence, rng)
            views.append(view)
            frames.append(pixels)
            maps += [] if anomaly_map is None else [anomaly_map.astype(np.float16).tobytes()]
        now_ns = time.monotonic_ns()
        trigger_ns = now_ns - round(rng.uniform(14, 22) * _MS)
        command = GateCommand.PASS if judgement is Judgement.PASS else GateCommand.REJECT
        verdict = Verdict(
            part_id=f"{self._station.station}-{RUN}-{self.sequence:08}",
            sequence=self.sequence,
            station=self._station.station,
            line=self._station.line,
            recipe=product,
            recipe_version=3,
            recipe_digest="sha256:r",
            product=product,
            verdict=judgement,
            reasons=tuple({reason: None for view in views for reason in view.reasons}),
            views=tuple(views),
            gate=command,
            trigger_ns=trigger_ns,
            trigger_time_ns=time.time_ns() - round(age_s * 1e9),
            deadline_ns=trigger_ns + 500 * _MS,
            judged_ns=now_ns,
        )
        self._sender.send(verdict, maps)
        for camera, pixels in zip(CAMERAS, frames, strict=True):
            fidelity = Fidelity.NONE if judgement is Judgement.PASS else self.kept
            for evidence, jpeg in pictures(Judged(None, pixels, verdict, camera, fidelity, live=True), 256):
                self._sender.send(evidence, [jpeg])
        outcome = GateOutcome.PASSED if command is GateCommand.PASS else GateOutcome.EJECTED
        report = GateReport(
            part_id=verdict.part_id,
            trigger_time_ns=verdict.trigger_time_ns,
            command=command,
            written_ns=now_ns + 2 * _MS,
            outcome=outcome if seen else None,
            reported_ns=now_ns + 900 * _MS,
        )
        self._sender.send(report, [])
        self.beat()
        self._sender.finish()
        return verdict.part_id


def _view(
    camera: str, judgement: Judgement, product: str, sequence: int, rng: np.random.Generator
) -> tuple[View, np.ndarray | None, np.ndarray]:
    """Judge one view of a part so that the part gets its `judgement`: the top view shows what is wrong."""
    shown = judgement if camera == "top" else Judgement.PASS
    kinds = ("scratch", "chip", "stain", "missing")
    bad = shown in {Judgement.REJECT, Judgement.REVIEW}
    defect = Defect(kinds[sequence % len(kinds)], 0.9 if shown is Judgement.REJECT else 0.35) if bad else None
    side: Side = "top" if camera == "top" else "bottom"
    rendered = render(product, 7, sequence, side=side, width_px=_SIDE_PX, height_px=_SIDE_PX, defect=defect)
    frame_shape = (_SIDE_PX, _SIDE_PX, 3)
    if shown is Judgement.FAULT:
        late = View(
            camera=camera, verdict=shown, reasons=(Reason.LATE,), review_above=REVIEW_ABOVE, reject_above=REJECT_ABOVE
        )
        return late, None, rendered.pixels
    ground = cv2.GaussianBlur(rng.normal(0, 1, (_CELLS, _CELLS)), (0, 0), 1.2)
    anomaly_map = 0.55 + rng.uniform(0.1, 0.22) * ground / ground.std()
    if bad:
        mask = cv2.resize(rendered.mask.astype(np.float32), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        bump = cv2.GaussianBlur(mask, (0, 0), 0.9)
        peak = rng.uniform(2.3, 4.6) if shown is Judgement.REJECT else rng.uniform(1.65, 1.95)
        anomaly_map = np.maximum(np.minimum(anomaly_map, 1.3), peak * bump / bump.max())
    else:
        anomaly_map = np.minimum(anomaly_map, REVIEW_ABOVE - 0.1)
    anomaly_map = anomaly_map.astype(np.float16).astype(np.float32)
    reasons = {Judgement.REJECT: (Reason.ABOVE_THRESHOLD,), Judgement.REVIEW: (Reason.GRAY_ZONE,)}
    now_ns = time.monotonic_ns()
    view = View(
        camera=camera,
        verdict=shown,
        reasons=reasons.get(shown, ()),
        score=float(anomaly_map.max()),
        review_above=REVIEW_ABOVE,
        reject_above=REJECT_ABOVE,
        bundle_digest=DIGEST,
        frame_shape=frame_shape,
        map_shape=(_CELLS, _CELLS),
        regions=tuple(defect.region for defect in defects.find(anomaly_map, EVERYWHERE, (LIMITS,), frame_shape)),
        worker="worker-0",
        batch_size=2,
        received_ns=now_ns - 13 * _MS,
        started_ns=now_ns - 12 * _MS,
        finished_ns=now_ns - _MS,
    )
    return view, anomaly_map, rendered.pixels


class ConsoleProcess:
    """`python -m deploy.console` as the supervisor runs it."""

    def __init__(self, storage_: Storage, **console: object) -> None:
        self.home = storage_.home
        self._environment = storage_.environment
        self.log = storage_.log.with_name("console.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.database = str(storage_.environment["ANDON_DATABASE_URL"])
        self.station = write_station(storage_, ConsoleSection.model_validate({"port": 0} | console))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def credentials(self) -> dict[str, str]:
        """The header by which an administrator's program is signed in; made when it is first needed."""
        return signed_in.bearer(self.database, self.home.path)

    def start(self, port: int = 0) -> None:
        """Start it on `port`, any if 0, and wait until it says READY=1."""
        if port:
            console = self.station.console.model_copy(update={"port": port})
            self.home.write_station(self.station.model_copy(update={"console": console}))
        begin = len(self.lines())
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = self.home.path / "notify"
        address.unlink(missing_ok=True)
        self.notified.bind(str(address))
        self.notified.settimeout(60)
        self.process = self._popen({"NOTIFY_SOCKET": str(address)})
        try:
            assert self.notified.recv(100) == b"READY=1", self.said()
        except TimeoutError:
            raise AssertionError(self.said()) from None
        url = next(str(line["url"]) for line in self.lines()[begin:] if line["event"] == "console")
        self.port = int(url.rstrip("/").rpartition(":")[2])

    def fail(self) -> int:
        """Start one that is to end by itself; return its exit code."""
        return self._popen({}).wait(20)

    def stop(self) -> float:
        """Stop it in order; return how many seconds that took."""
        assert self.process is not None
        begin_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        took_s = time.monotonic() - begin_s
        self.process = None
        self.notified.close()
        assert code == 0, self.said()
        return took_s

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None
            self.notified.close()

    def get(self, path: str, *, as_nobody: bool = False, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask for a path as an administrator's program; return status, headers and body."""
        headers = headers if as_nobody else self.credentials | headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def json(self, path: str) -> dict[str, object]:
        status, _, body = self.get(path)
        assert status == 200, body
        found: dict[str, object] = json.loads(body)
        return found

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def _popen(self, more: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "deploy.console", "--home", str(self.home.path)]
            return subprocess.Popen(command, env=self._environment | more, stderr=log)


def write_station(storage_: Storage, console: ConsoleSection) -> Station:
    """Write the station of two cameras and two products that the line plays."""
    folder = storage_.home.path / "recipes"
    folder.mkdir(exist_ok=True)
    (folder / "none.andon").touch()
    for job, product in enumerate(("board", "bracket"), 1):
        view = ViewRecipe(bundle=folder / "none.andon", review_above=REVIEW_ABOVE, reject_above=REJECT_ABOVE)
        recipe = Recipe(product=product, job=job, version=3, views=dict.fromkeys(CAMERAS, view))
        (folder / f"{product}.json").write_text(recipe.model_dump_json())
    station = Station(
        station="st",
        recipes={product: folder / f"{product}.json" for product in ("board", "bracket")},
        recipe="bracket",
        cameras=tuple(CameraSection(name=camera, type="simulated") for camera in CAMERAS),
        plc=PlcSection(type="modbus"),
        storage=StorageSection(free_disk_mb=0),
        console=console,
    )
    storage_.home.write_station(station)
    return station


@dataclasses.dataclass
class Inspected:
    """A line, its storage process and its console."""

    servers: Servers
    storage: Storage
    console: ConsoleProcess
    line: Line

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Let the processes that are played say every second that they are well."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(1):
                self.line.beat()

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def inspected(servers: Servers) -> Iterator[Inspected]:
    """Run a station of which only cameras, workers and decision are played."""
    with storage(servers) as kept:
        console = ConsoleProcess(kept)
        line = Line(kept, console.station)
        try:
            kept.start()
            console.start()
            yield Inspected(servers, kept, console, line)
        finally:
            console.kill()
