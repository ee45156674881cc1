from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.holds import Holds
from config.home import Home, Run
from config.schedule import Hold
from config.station import CameraSection, PlcSection, SimulationSection, Station
from ingest.camera import TriggerLine

MS = 1_000_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    (tmp_path / "r.toml").write_text("")
    made = Home(tmp_path / "home")
    made.make()
    made.write_station(
        Station(
            station="s",
            recipes={"r": tmp_path / "r.toml"},
            recipe="r",
            cameras=(CameraSection(name="c", type="simulated"),),
            plc=PlcSection(type="modbus"),
            simulation=SimulationSection(rate_per_s=10, products=("r",)),
        )
    )
    made.write_run(Run(run_id="1"))
    yield made
    shutil.rmtree(made.runtime)


def test_what_was_written_is_read_by_others_of_the_same_run_only(home: Home) -> None:
    holds = (Hold(5, 9), Hold(20))
    reader = home.holds()
    assert reader.read() == ()
    home.holds().write(holds)
    assert reader.read() == reader.read() == holds
    assert Holds(home.runtime, "another").read() == ()


def test_no_part_comes_to_a_camera_while_the_belt_is_held(home: Home) -> None:
    start_ns = time.monotonic_ns()
    home.write_start(Run(run_id="1"), start_ns)
    line = TriggerLine(home)
    assert line.wait(0) == start_ns
    home.holds().write((Hold(start_ns + 50 * MS),))
    found: list[int | None] = []
    waiting = threading.Thread(target=lambda: found.append(line.wait(1)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive(), "its time has come, and the belt stands"
    end_ns = time.monotonic_ns() + 100 * MS
    home.holds().write((Hold(start_ns + 50 * MS, end_ns),))
    waiting.join(2)
    assert found == [end_ns + 50 * MS]
    assert time.monotonic_ns() >= end_ns + 50 * MS
    line.close()
    assert line.wait(2) is None
