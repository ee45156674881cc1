"""The gate, counted by the PLC: the whole station on a belt that changes speed and stops, and every fault of a PLC."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from live_servers import state_folder
from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient
from sqlalchemy import create_engine, text
from station_process import StationProcess, assert_whole

from config.home import Home
from decision import registers
from deploy.cli import main

GRAY, WHITE = 51, 204  # brightness of a good part and of a bad one
READY_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with state_folder() as folder:
        yield folder / "home"
        shutil.rmtree(Home(folder / "home").runtime, ignore_errors=True)


@pytest.fixture
def station(home: Path, tmp_path: Path, write_brightness: Callable[..., Path]) -> Callable[..., StationProcess]:
    """Start a station whose parts are small gray or white pictures: it can judge 50 in a second on two cores."""
    bundle = write_brightness()
    for kind, brightness, count in (("good", GRAY, 9), ("white", WHITE, 3)):
        folder = tmp_path / "parts" / "test" / kind
        folder.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((6, 8), brightness, np.uint8))
    view = f'[views.front]\nbundle = "{bundle}"\nreview_above = 0.5\nreject_above = 0.7\n'
    (tmp_path / "tile.toml").write_text(f'product = "tile"\njob = 3\ndeadline_ms = 400\n{view}')

    def start(
        *words: str,
        url: str = "",
        redis: str = "",
        trigger: str = "camera",
        driven: dict[str, object] | None = None,
        **simulation: object,
    ) -> StationProcess:
        """`driven` are the tables of a station that drives its own gates, and has no PLC."""
        file = tmp_path / "station.json"
        line = {"rate_per_s": 50, "products": ["tile"], "gate_travel_s": 1.0, "seed": 11, "parts_log": True}
        camera = {"path": str(tmp_path / "parts"), "channels": 1, "order": "shuffled"}
        content = {
            "station": "tiles",
            "recipe": "tile",
            "recipes": {"tile": str(tmp_path / "tile.toml")},
            "cameras": [{"name": "front", "type": "folder", "slots": 256, "options": camera}],
            **(driven or {"plc": {"type": "modbus", "trigger": trigger, "options": {"port": 0}}}),
            "simulation": {**line, **simulation},
        }
        file.write_text(json.dumps(content))
        (home / "plc_parts.csv").unlink(missing_ok=True)
        environment = {"ANDON_KEYS": str(tmp_path / "keys"), "ANDON_DATABASE_URL": url, "ANDON_REDIS_URL": redis}
        return StationProcess(home, "--station", str(file), *words, environment=environment)

    return start


def seen_by_the_plc(home: Path) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the PLC's counts, and (sequence, command, outcome) of each part that it saw at the gate."""
    with (home / "plc_parts.csv").open() as file:
        return json.loads((home / "plc.json").read_text()), list(csv.reader(file))


@pytest.mark.parametrize(
    "parts",
    [300, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_no_escape_no_good_part_ejected_none_late_whatever_the_belt_does(home, station, servers, parts: int) -> None:
    """At full speed 92 parts come in a second; speeds from a third of that on, and stops, make it 50 on average."""
    given = {"url": servers.database(migrated=False), "redis": servers.valkey.url}
    speeds = {"rate_per_s": 92, "slowest_speed": 0.35, "speed_change_s": 0.7, "longest_stop_s": 0.5}
    running = station("--parts", str(parts), **given, **speeds)
    code, summary = running.finish(within_s=120 + parts / 25)
    assert_whole(code, summary, parts, running.screen)
    plc, told = seen_by_the_plc(home)
    assert (plc["escapes"], plc["bad_passed"]) == (0, 0), plc
    assert (plc["good_ejected"], plc["late"], plc["ejected_unjudged"], plc["unseen"]) == (0, 0, 0, 0), plc
    assert plc["passed"] + plc["ejected"] == parts, plc
    assert plc["passed"] == summary["verdicts"]["PASS"] > parts / 2, (plc, summary["verdicts"])
    assert plc["ejected"] == summary["verdicts"]["REJECT"] > parts / 10, (plc, summary["verdicts"])
    assert [int(row[0]) for row in told] == list(range(parts))
    assert summary["late"] == 0, summary


FAULTS = ("drop", "freeze", "late", "restart", "cold-restart", "miss-outcome", "heartbeat", "unknown-job")


class Panel:
    """What somebody reads from the PLC: by a Modbus client of the test's own."""

    def __init__(self, home: Path) -> None:
        options = json.loads((home / "station.json").read_text())["plc"]["options"]
        self._client = ModbusTcpClient("127.0.0.1", port=options["port"], timeout=0.3, retries=0)

    def close(self) -> None:
        self._client.close()

    def ready_within(self, within_s: float) -> bool:
        """Wait until the station says READY for its job, and its heartbeat moves."""
        ends_s = time.monotonic() + within_s
        beats: set[int] = set()
        while time.monotonic() < ends_s:
            time.sleep(0.02)
            try:
                self._client.connect()
                words = self._client.read_holding_registers(0, count=registers.HEARTBEAT_LOST.end).registers
            except (ModbusException, OSError):
                words = []
            state = (
                tuple(words[one.address] for one in (registers.STATION_STATE, registers.ACTIVE_JOB)) if words else ()
            )
            if state == (1, 3) and not words[registers.HEARTBEAT_LOST.address]:
                beats.add(words[registers.STATION_HEARTBEAT.address])
                if len(beats) > 2:
                    return True
            else:
                beats.clear()
        return False


def recorded(url: str, run: str) -> dict[int, str]:
    """Return the verdict of each part that is in the record, by its sequence."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT sequence, verdict FROM verdict WHERE run = :run"), {"run": run}).all()
    engine.dispose()
    return dict(rows)


@pytest.mark.parametrize(
    ("trigger", "rate_per_s", "faults"),
    [("camera", 25, FAULTS), ("plc", 8, ("miss-ack", "drop", "cold-restart"))],
)
def test_after_every_fault_the_station_is_ready_again_and_no_unjudged_part_has_passed(
    home, station, servers, trigger: str, rate_per_s: int, faults: tuple[str, ...]
) -> None:
    """Each fault of the PLC in turn, then kill -9 of the decision process, while parts come."""
    url = servers.database(migrated=False)
    running = station(url=url, redis=servers.valkey.url, trigger=trigger, rate_per_s=rate_per_s)
    running.wait_running()
    panel = Panel(home)
    try:
        assert panel.ready_within(15), "".join(running.screen)
        for fault in faults:
            assert main(["plc", "fault", fault, "--for", "0.4", "--home", str(home)]) == 0
            time.sleep(0.4)
            assert panel.ready_within(READY_WITHIN_S), f"after {fault}:\n{''.join(running.screen[-20:])}"
        assert running.kill("decision")
        assert panel.ready_within(READY_WITHIN_S), "".join(running.screen[-20:])
        time.sleep(2.0)  # twice the way to the gate
    finally:
        panel.close()
        running.stop()
    plc, told = seen_by_the_plc(home)
    known = recorded(url, json.loads((home / "run.json").read_text())["run_id"])
    assert (plc["escapes"], plc["bad_passed"]) == (0, 0), plc
    passed = [int(row[0]) for row in told if row[2] == "PASSED"]
    assert "PASSED" in [row[2] for row in told[-rate_per_s:]], "good parts pass again in the end"
    assert [part for part in passed if known.get(part) != "PASS"] == [], "what passed was judged PASS, and recorded"
    missing = set(range(int(told[-1][0]) + 1)) - set(known)
    if trigger == "camera":
        assert not missing, "every part at the gate has its verdict in the record"
        assert plc["untold"] > 0, plc
    else:
        assert len(missing) <= plc["untriggered"], "only parts that the PLC could not trigger have none"
    assert plc["unseen"] > 0, plc


def test_a_station_that_drives_its_own_gates_runs_without_hardware(home, station, servers) -> None:
    """The coupler and its belt are simulated, too; they count what left the belt."""
    counters = [{"address": 0}, {"address": 2, "bits": 16}, {"address": 3, "bits": 16}]
    gate = {
        "name": "reject",
        "output": 0,
        "distance_mm": 400,
        "window_mm": 40,
        "part": {"counter": 1, "distance_mm": 330, "tolerance_mm": 15},
        "ejected": {"counter": 2, "after_ms": 60, "tolerance_ms": 60},
    }
    driven = {
        "io": {"type": "modbus", "line_stop_output": 1, "options": {"port": 0, "outputs": 2, "counters": counters}},
        "encoder": {"counter": 0, "mm_per_count": 0.05, "top_speed_mm_s": 500},
        "gates": [gate],
    }
    parts = 50
    given = {"url": servers.database(migrated=False), "redis": servers.valkey.url, "driven": driven}
    started = station("--parts", str(parts), **given, rate_per_s=8, slowest_speed=0.5, speed_change_s=0.5)
    code, summary = started.finish()
    assert_whole(code, summary, parts, started.screen)
    tally, seen = seen_by_the_plc(home)
    print(tally)  # noqa: T201 - asked for with -s
    assert [int(sequence) for sequence, _, _ in seen] == list(range(parts))
    assert tally["passed"] + tally["ejected"] == parts
    assert tally["bad_passed"] == 0
    assert tally["ejected"] >= summary["verdicts"].get("REJECT", 0) > 0
    assert tally["passed"] > parts / 2
    faults = summary["verdicts"].get("FAULT", 0)
    held_back = summary["verdicts"]["PASS"] - tally["passed"]
    assert 0 <= held_back <= tally["good_ejected"] <= held_back + faults
