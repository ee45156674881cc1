"""What a release asks of supervisor and versions: some processes start anew, uncounted; what is in force stays so."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import recipe
from config.errors import ConfigurationError
from config.station import CameraSection, PlcSection, Station
from config.versions import Versions
from deploy.child import Program
from deploy.logbook import Logbook
from deploy.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
PROBE = """
import sys
from pathlib import Path
from config.errors import ConfigurationError
from config.home import Home
from config.service import Service, leave, serve

class Probe(Service):
    def open(self):
        if (self.home.path.parent / "wrong").exists() and self.name == "decision":
            raise ConfigurationError("the bundle is none")

leave(serve(lambda: Probe(sys.argv[2], Home(Path(sys.argv[1]))), sys.argv[2]))
"""
RECIPE = """
product = "cap"
job = 1
version = {version}
[views.front]
bundle = "{bundle}"
bundle_digest = "sha256:{bundle}"
review_above = 1.0
reject_above = 2.0
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    (tmp_path / "probe.py").write_text(PROBE)
    made = Supervisor(tmp_path, Logbook(tmp_path, io.StringIO()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def program(name: str, stops: int) -> Program:
        command = [sys.executable, str(tmp_path / "probe.py"), str(tmp_path / "home"), name]
        return Program(name, lambda: command, lambda: environment, stops=stops)

    made.start([program("storage", 2), program("decision", 1), program("camera-a", 0)], 20)
    yield made
    made.stop()
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_some_start_anew_and_the_others_go_on(supervisor: Supervisor) -> None:
    before, judging = supervisor.pids, ["decision", "camera-a"]
    supervisor.pause(judging)
    for _ in range(5):
        supervisor.turn()
    assert supervisor.pids == {"storage": before["storage"]}, "what is paused stays so"
    supervisor.resume(judging, 20)
    after = supervisor.pids
    assert after["storage"] == before["storage"]
    assert all(after[name] != before[name] for name in judging)
    assert supervisor.restarts == {}


def test_what_does_not_come_up_can_be_taken_back(supervisor: Supervisor, tmp_path: Path) -> None:
    judging = ["decision", "camera-a"]
    supervisor.pause(judging)
    (tmp_path / "wrong").touch()
    with pytest.raises(ConfigurationError, match="the bundle is none"):
        supervisor.resume(judging, 20)
    (tmp_path / "wrong").unlink()
    supervisor.pause(judging)
    supervisor.resume(judging, 20)
    assert set(supervisor.pids) == {"storage", *judging}
    assert supervisor.restarts == {}


def test_released_bundle_counts_in_later_runs_until_the_file_says_something_else(tmp_path: Path) -> None:
    file = tmp_path / "cap.toml"
    for name in ("old", "new", "newer"):
        (tmp_path / name).touch()
    file.write_text(RECIPE.format(version=1, bundle="old"))
    station = Station(
        station="s",
        recipes={"cap": file},
        recipe="cap",
        cameras=(CameraSection(name="front", type="simulated"),),
        plc=PlcSection(type="modbus"),
    )
    versions = Versions(tmp_path / "versions")
    of_file = versions.begin("r1", station)["cap"]
    view = of_file.views["front"].model_copy(update={"bundle": tmp_path / "new", "bundle_digest": "sha256:new"})
    wanted = versions.copy(of_file.model_copy(update={"version": 2, "views": {"front": view}}))
    versions.adopt("cap", wanted, recipe.digest(recipe.content(of_file)))
    for run in ("r1", "r2", "r3"):
        found = versions.begin(run, station)["cap"]
        assert (found.version, found.views["front"].bundle) == (2, tmp_path / "new"), run
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "old").rename(tmp_path / "elsewhere" / "old")
    file.write_text(RECIPE.format(version=1, bundle="old").replace('bundle = "old"', 'bundle = "elsewhere/old"'))
    assert versions.begin("r4", station)["cap"].views["front"].bundle == tmp_path / "new", "the same content elsewhere"
    file.write_text(RECIPE.format(version=3, bundle="newer"))
    found = versions.begin("r5", station)["cap"]
    assert (found.version, found.views["front"].bundle) == (3, tmp_path / "newer")
