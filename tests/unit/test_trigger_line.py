from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from config.errors import ConfigurationError
from config.home import Home, Run
from config.messages import Expose, Reason, Truth
from config.schedule import Schedule
from config.station import CameraSection, PlcSection, SimulationSection, Station
from ingest.camera import Exposure, TriggerLine


@pytest.fixture
def line(tmp_path: Path) -> Iterator[TriggerLine]:
    home = Home(tmp_path / "home")
    home.make()
    station = Station(
        station="s",
        recipes={"r": tmp_path / "r.toml"},
        recipe="r",
        cameras=(CameraSection(name="c", type="simulated"),),
        plc=PlcSection(type="modbus", trigger="plc"),
        simulation=SimulationSection(products=("r",)),
    )
    (tmp_path / "r.toml").touch()
    home.write_station(station)
    run = Run(run_id="1", parts=3)
    home.write_run(run)
    home.write_start(run, time.monotonic_ns())
    yield TriggerLine(home)
    shutil.rmtree(home.runtime)


def order(sequence: int, trigger_ns: int | None = None) -> Expose:
    now_ns = time.monotonic_ns() if trigger_ns is None else trigger_ns
    return Expose(
        part_id=f"s-1-{sequence:08d}",
        sequence=sequence,
        recipe="r",
        trigger_ns=now_ns,
        trigger_time_ns=1,
        deadline_ns=now_ns + 1,
    )


def picture(sequence: int, _schedule: Schedule) -> np.ndarray | Reason:
    return Reason.UNREADABLE_FRAME if sequence == 13 else np.full((1, 1, 1), sequence, np.uint8)


def truth(sequence: int, _schedule: Schedule) -> Truth:
    return Truth(good=sequence % 2 == 0)


def shown(exposure: Exposure) -> int | Reason | None:
    return exposure.reason if exposure.pixels is None else int(exposure.pixels[0, 0, 0])


def test_a_plc_that_leads_names_the_parts_and_when_they_come(line: TriggerLine) -> None:
    missed = order(4, time.monotonic_ns() - 1)
    line.expose(missed)
    exposures = line.play(0, picture, truth)
    orders = [order(5), order(6), order(12), order(13), order(14)]
    for one in orders:
        line.expose(one)
    threading.Timer(0.3, line.close).start()
    seen = list(exposures)
    assert [exposure.order for exposure in seen] == [missed, *orders]
    assert [exposure.sequence for exposure in seen] == [4, 5, 6, 12, 13, 14]
    assert [exposure.time_ns for exposure in seen] == [one.trigger_ns for one in (missed, *orders)]
    assert [shown(exposure) for exposure in seen] == [Reason.CAMERA_DOWN, 5, 6, 12, Reason.UNREADABLE_FRAME, 14]
    assert [exposure.truth.good for exposure in seen if exposure.truth] == [True, False, True, True, False, True]


def test_closing_ends_a_camera_that_waits_for_the_plc(line: TriggerLine) -> None:
    exposures = line.play(0, picture, truth)
    threading.Timer(0.05, line.close).start()
    assert list(exposures) == []


def test_a_camera_that_counts_by_itself_is_refused_where_the_plc_leads(line: TriggerLine) -> None:
    with pytest.raises(ConfigurationError, match=r"plc\.trigger is 'plc'.*TriggerLine\.play"):
        line.wait(0)
