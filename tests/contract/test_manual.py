"""The manual's examples are plug-ins: each is loaded from one file, as the manual says, and does its work."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import decision.plc
import inference.detectors
import ingest.cameras
from config import plugins
from config.home import Home, Run
from config.messages import GateCommand, Judgement
from config.station import CameraSection, PlcSection, SimulationSection, Station
from decision import registers
from decision.gate import StationState
from decision.link import Link
from decision.news import GateOutcomeSeen, GateWritten
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, train
from ingest.camera import TriggerLine

MANUAL = Path(__file__).parents[2] / "docs" / "manual.md"
PLC_MANUAL = MANUAL.with_name("plc.md")
TABLE = re.compile(r"(<!-- registers: .* -->\n).*(<!-- end of registers -->)", re.DOTALL)


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Put the manual's example for a path such as `ingest/cameras/stripes.py` where it belongs, and load it."""

    def load(package: ModuleType, path: str) -> ModuleType:
        text = MANUAL.read_text(encoding="utf-8")
        code = text[text.index(f"`{path}`") :].split("```python\n", 1)[1].split("```", 1)[0]
        name = Path(path).stem
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        assert name in plugins.names(package.__name__)
        return plugins.load(package.__name__, name)

    return load


def test_the_camera(plug_in, tmp_path):
    module = plug_in(ingest.cameras, "ingest/cameras/stripes.py")
    (tmp_path / "r.toml").write_text("")
    home = Home(tmp_path / "home")
    home.make()
    try:
        home.write_station(
            Station(
                station="s",
                recipes={"r": tmp_path / "r.toml"},
                recipe="r",
                cameras=(CameraSection(name="c", type="stripes"),),
                plc=PlcSection(type="modbus"),
                simulation=SimulationSection(rate_per_s=200, products=("r",)),
            )
        )
        run = Run(run_id="1", parts=5)
        home.write_run(run)
        home.write_start(run, time.monotonic_ns())
        camera = module.Camera(module.Options(), "c", TriggerLine(home))
        assert camera.open() == 64 * 64 * 3
        seen = list(camera.exposures(2))
        assert [exposure.sequence for exposure in seen] == [2, 3, 4]
        assert all(exposure.pixels.shape == (64, 64, 3) for exposure in seen)
        camera.close()
    finally:
        for file in home.runtime.iterdir():
            file.unlink()
        home.runtime.rmdir()


def test_the_detector(plug_in, tmp_path):
    plug_in(inference.detectors, "inference/detectors/mean.py")
    rng = np.random.default_rng(0)
    images = tmp_path / "good"
    images.mkdir()
    for number in range(12):
        picture = np.clip(rng.normal(120, 4, (80, 80, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(images / f"{number}.png"), picture)
    key = SigningKey.load(tmp_path / "keys")
    path = train(
        TrainingOptions(images=images, output=tmp_path / "mean.andon", name="mean", detector="mean", folds=2), key=key
    )
    engine = Engine(Bundle.open(path, TrustStore.load(tmp_path / "keys")))
    engine.check_golden()
    good = np.full((1, 80, 80, 3), 120, np.uint8)
    bad = good.copy()
    bad[0, 20:40, 20:40] = 255
    scores, maps = engine.infer(np.concatenate([good, bad]))
    assert scores[1] > 5 * scores[0]
    assert maps.shape == (2, 64, 64)


def test_the_plc_driver(plug_in):
    module = plug_in(decision.plc, "decision/plc/lines.py")
    results: list[dict[str, object]] = []

    def gateway(server: socket.socket) -> None:
        stream = server.accept()[0].makefile("rw")
        run, beat = 0, 0
        for line in stream:
            verb, value = json.loads(line)
            answer: object = None
            if verb == "outputs":
                run = value["run"]
            elif verb == "results":
                results.extend(value)
            elif verb == "inputs":
                beat += 1
                answer = {"run": run, "heartbeat": beat % 65536, "requested_job": 0, "outcome_count": len(results)}
            elif verb == "outcomes":
                chosen = results[value[0] - 1 : value[0] - 1 + value[1]]
                answer = [[one["sequence"], "PASSED" if one["command"] == "PASS" else "EJECTED"] for one in chosen]
            stream.write(json.dumps(answer) + "\n")
            stream.flush()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=gateway, args=(server,), daemon=True).start()
        driver = module.Driver(module.Options(port=server.getsockname()[1]))
        link = Link(driver, "run", Counter())
        link.start()
        link.order(7, "p7", GateCommand.PASS, Judgement.PASS, time.monotonic_ns() + 2_000_000_000)
        events: list[object] = []
        ends = time.monotonic() + 5
        while not any(isinstance(event, GateOutcomeSeen) for event in events) and time.monotonic() < ends:
            link.able(StationState.READY)
            events += link.events()
            time.sleep(0.01)
        link.close()
    assert [event.part_id for event in events if isinstance(event, GateWritten)] == ["p7"]
    assert [event.outcome.value for event in events if isinstance(event, GateOutcomeSeen)] == ["PASSED"]


def register_table() -> str:
    rows = ["| register | address | words | written by | meaning |", "|---|---|---|---|---|"]
    for one in registers.TABLE:
        size = f"{one.words}" if one.slots == 1 else f"{one.slots} x {one.words}"
        rows.append(f"| `{one.name}` | {one.address} | {size} | {one.writer} | {one.meaning} |")
    return "\n".join(rows)


def test_the_register_map_is_the_codes():
    found = TABLE.search(PLC_MANUAL.read_text(encoding="utf-8"))
    assert found
    assert found.group(0) == f"{found.group(1)}{register_table()}\n{found.group(2)}"
