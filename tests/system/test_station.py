"""The whole station, all of it real: processes, sockets, servers, PLC; disturbed as a factory would."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from live_servers import state_folder
from sqlalchemy import create_engine
from station_process import ANDON, PROCESSES, StationProcess, assert_whole

from config.home import Home
from storage import audit
from storage.query.filters import Filter
from storage.query.service import QueryService

DEMO = Path(__file__).parents[2] / "deploy" / "demo"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Give a state folder that all runs of this file share: initdb once."""
    with state_folder() as folder:
        yield folder / "home"
        shutil.rmtree(Home(folder / "home").runtime, ignore_errors=True)


def write_station(folder: Path, text: str) -> Path:
    for file in DEMO.glob("*.toml"):
        shutil.copy(file, folder / file.name)
    for file in DEMO.glob("*.andon"):
        (folder / file.name).symlink_to(file)
    path = folder / "station.toml"
    path.write_text(text)
    return path


def test_the_demo_judges_its_parts(home):
    station = StationProcess(home, "--parts", "100")
    code, summary = station.finish()
    assert_whole(code, summary, 100, station.screen)
    truth = summary["truth"]
    assert truth["good"] + truth["bad"] == 100
    assert truth["false_reject"] <= 0.03 * truth["good"], summary
    assert truth["escape"] <= 0.05 * truth["bad"] + 1, summary
    assert summary["verdicts"]["FAULT"] == 0, summary
    assert summary["gate_commands"] == summary["gate_confirmed"] == 100, summary
    assert summary["late"] == summary["overruns"] == 0, summary
    assert 0 < summary["latency_ms"]["trigger_to_verdict"]["p50"] <= summary["latency_ms"]["trigger_to_gate"]["p50"]
    plc = json.loads((home / "plc.json").read_text())
    assert plc["passed"] == summary["verdicts"]["PASS"], "the PLC let through what was judged PASS, and nothing else"
    replays_as_it_was_judged(home, summary)


def replays_as_it_was_judged(home: Path, summary: dict[str, Any]) -> None:
    """Law 6: recipe, bundle and stored pixels give the same score again; another bundle is told apart."""
    run = json.loads((home / "run.json").read_text())["run_id"]
    code, again = replay(home, "--run", run)
    assert code == 0, again
    judged = summary["verdicts"]["REJECT"] + summary["verdicts"]["REVIEW"]
    exact = again["exact"]
    assert again["parts"] == 100
    assert exact["parts"] == exact["same"] > judged > 5, "what did not pass, and a sample of what did"
    assert exact["largest_difference"] == 0.0, "on the same machine to the last bit"
    assert exact["verdicts"]["PASS->PASS"] == exact["parts"] - judged
    assert again["approximate"]["parts"] == 0
    assert again["not_replayable"] == {"no pixels kept": 100 - exact["parts"]}
    code, other = replay(home, "--run", run, "--product", "bracket", "--with-bundle", str(DEMO / "cap.andon"))
    assert code == 0, other
    assert other["exact"]["scores_differ"] == other["exact"]["parts"] > 0
    assert other["exact"]["verdicts"]["PASS->REJECT"] > 0, "a cap's bundle lets no bracket pass"


def replay(home: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and summary."""
    command = [*ANDON, "replay", "--home", str(home), "--json", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])["summary"]


def test_every_process_may_be_killed(home):
    """One after another, each in mid-run; only parts that ran out of time are FAULT."""
    parts = 190
    station = StationProcess(home, "--parts", str(parts))
    station.wait_running()
    for name in PROCESSES:
        time.sleep(1.7)
        assert station.kill(name), f"{name} does not run:\n{''.join(station.screen)}"
    code, summary = station.finish()
    assert_whole(code, summary, parts, station.screen)
    assert sum(summary["restarts"].values()) == len(PROCESSES), summary
    assert summary["truth"]["escape"] <= 0.05 * summary["truth"]["bad"] + 1, summary


@pytest.mark.slow  # in every run each process is killed once, and all while they start
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kills_at_random_moments(home, seed):
    """Several processes die at any moment, also two at once and while another is only coming back."""
    choice = random.Random(seed)
    station = StationProcess(home, "--parts", "150")
    station.wait_running()
    killed = 0
    ends = time.monotonic() + 14
    while time.monotonic() < ends:
        time.sleep(choice.uniform(0.05, 1.6))
        killed += station.kill(choice.choice(list(PROCESSES)))
    code, summary = station.finish()
    assert killed > 3
    assert_whole(code, summary, 150, station.screen)


def test_a_hung_worker_costs_no_part(home):
    """SIGSTOP: the process is there and silent; its frames go to the other worker once its silence is noticed."""
    station = StationProcess(home, "--parts", "40")
    station.wait_running()
    time.sleep(1.0)
    stopped = station.pids("worker")[0]
    os.kill(stopped, 19)
    code, summary = station.finish()
    assert_whole(code, summary, 40, station.screen)
    assert summary["verdicts"]["FAULT"] <= 12, summary


@pytest.fixture
def new_home() -> Iterator[Path]:
    """Give a state folder of the test's own: one that is not new brings its versions and journal into any database."""
    with state_folder() as folder:
        yield folder / "home"
        shutil.rmtree(Home(folder / "home").runtime, ignore_errors=True)


def test_two_cameras_judge_one_part_pixels_travel_by_tcp_and_the_servers_are_external(new_home, servers, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recipe = (DEMO / "bracket.toml").read_text()
    view = recipe[recipe.index("[views.front]") :]
    path = write_station(
        tmp_path,
        f"""
        station = "pair"
        recipe = "bracket"
        recipes = {{ bracket = "pair.toml" }}
        [[cameras]]
        name = "front"
        type = "simulated"
        [[cameras]]
        name = "back"
        type = "simulated"
        options.seed = 7
        [plc]
        type = "modbus"
        options.port = 0
        [simulation]
        rate_per_s = 8
        products = ["bracket"]
        gate_travel_s = 1.0
        seed = 7
        [endpoints]
        "camera.back" = "tcp://127.0.0.1:{port}"
        """,
    )
    (tmp_path / "pair.toml").write_text(recipe + "\n" + view.replace("[views.front]", "[views.back]"))
    urls = {"ANDON_DATABASE_URL": servers.database(migrated=False), "ANDON_REDIS_URL": servers.valkey.url}
    station = StationProcess(new_home, "--station", str(path), "--parts", "40", environment=urls)
    station.wait_running()
    assert not station.pids("postgres")
    assert not station.pids("valkey")
    code, summary = station.finish()
    assert_whole(code, summary, 40, station.screen)
    assert summary["verdicts"]["FAULT"] == 0, summary
    assert summary["verdicts"]["REJECT"] > 0, summary
    query = QueryService(urls["ANDON_DATABASE_URL"])
    assert query.counts(Filter(station="pair")).total == 40
    query.close()
    engine = create_engine(urls["ANDON_DATABASE_URL"])
    with engine.connect() as connection:
        entries = list(reversed(audit.newest(connection, 10)))
    engine.dispose()
    entered = [(entry.action, entry.subject) for entry in entries]
    assert sorted(entered[:2]) == [("bundle.registered", "bracket"), ("recipe.registered", "bracket")]
    people = [("person.added", "admin")]
    assert entered[2:] == [("station.started", "pair"), *people, ("station.stopped", "pair")], "\n".join(
        map(str, entries)
    )


def test_kills_while_everything_is_still_starting(home):
    """Whatever dies before the station is READY is started again, and the run is whole."""
    station = StationProcess(home, "--parts", "10")
    choice = random.Random(5)
    killed = 0
    ends = time.monotonic() + 60
    while killed < 4 and time.monotonic() < ends and station.process.poll() is None:
        time.sleep(choice.uniform(0.2, 0.7))
        killed += station.kill(choice.choice(["storage", "decision", "worker", "console", "plc", "valkey"]))
    code, summary = station.finish()
    assert killed == 4
    assert_whole(code, summary, 10, station.screen)


def test_one_start_after_another(home):
    """A station serves its console, is alone in its folder, takes its children along when killed, and starts again."""
    station = StationProcess(home)
    station.wait_running()
    page = next(line for line in station.screen if "console at" in line).split("console at ")[1].split()[0]
    with urllib.request.urlopen(page, timeout=20) as answer:  # noqa: S310 - our own page
        assert answer.status == 200
    second = subprocess.run(
        [*ANDON, "up", "--home", str(home)], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 78
    assert str(station.process.pid) in second.stderr
    assert "--home" in second.stderr

    children = running(station)
    station.process.kill()
    station.process.wait()
    ends = time.monotonic() + 5
    while (left := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not left

    again = StationProcess(home)
    again.wait_running()
    time.sleep(1.5)
    children = running(again)
    assert again.stop() < 2.0, "".join(again.screen)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    code, summary = again.finish()
    assert_whole(code, summary, summary["triggers"], again.screen)
    assert summary["triggers"] > 0, "".join(again.screen)


def running(station: StationProcess) -> list[int]:
    pids = [pid for name in PROCESSES for pid in station.pids(name)]
    assert len(pids) >= 8
    return pids


def test_damaged_images_are_faults_and_nothing_worse(home, tmp_path):
    """A plain folder: good pictures, a truncated one, an empty one and a text that calls itself a picture."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(1)
    for number in range(4):
        cv2.imwrite(str(images / f"{number}.png"), rng.integers(0, 255, (300 + 20 * number, 320, 3), dtype=np.uint8))
    whole = (images / "0.png").read_bytes()
    (images / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.png").write_bytes(b"")
    (images / "text.png").write_text("no picture")
    station = StationProcess(home, "--images", str(images), "--bundle", str(DEMO / "bracket.andon"), "--parts", "21")
    code, summary = station.finish()
    assert_whole(code, summary, 21, station.screen)
    assert summary["verdicts"]["FAULT"] == 9, summary
    assert summary["verdicts"]["PASS"] == 0, summary
    assert "truth" not in summary
