"""Another version of a recipe, by its file, and another recipe, by a person: a real decision process, between parts."""

from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import signed_in
import zmq
from leading_plc import LeadingPlc
from live_servers import Servers
from sqlalchemy import create_engine, text

from config import bus, station
from config.errors import EXIT_USAGE
from config.home import Home, Run
from config.messages import Enlist, Event, Job, Judgement, Prediction, Predictions, Recorded, Trigger, Verdict, decode
from deploy import cli
from storage.people import Role

ACTIVE_JOB = 2  # its register, as the manual has it
STATION = """
station = "sw"
recipe = "cap"
cameras = [{{ name = "front", type = "simulated" }}]
plc = {{ type = "modbus", options = {{ port = {port} }} }}
[recipes]
cap = "cap.toml"
lid = "lid.toml"
"""


def content(version: int, *, product: str = "cap", job: int = 1, reject_above: float = 2.0, more: str = "") -> str:
    view = f'[views.front]\nbundle = "bundle"\nreview_above = 1.0\nreject_above = {reject_above}\n'
    return f'product = "{product}"\njob = {job}\nversion = {version}\n{view}{more}'


class Line:
    """A decision process on a line that runs all the time; the test is its camera, worker and storage."""

    def __init__(self, folder: Path, port: int) -> None:
        self.file = folder / "cap.toml"
        (folder / "station.toml").write_text(STATION.format(port=port))
        self.file.write_text(content(1))
        (folder / "lid.toml").write_text(content(1, product="lid", job=2, reject_above=5.0))
        (folder / "bundle").touch()
        self.home = Home(folder / "home")
        self.home.make()
        self.home.write_station(station.read(folder / "station.toml"))
        self.home.write_run(Run(run_id="r1"))
        self.log = (folder / "log").open("wb")
        self._bus = bus.Bus()
        self._records = self._bus.bind(zmq.ROUTER, self.home.endpoint("records"))
        self._camera = self._bus.connect(zmq.DEALER, self.home.endpoint("triggers"), "front")
        self._worker = self._bus.connect(zmq.PUSH, self.home.endpoint("predictions"))
        self.verdicts: dict[int, Verdict] = {}
        self.events: list[Event] = []
        self._sent: dict[int, tuple[Trigger, Predictions, bytes]] = {}
        self.peak = 3.0
        self.parts = 0
        self._recipe = "cap"
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.begin()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def begin(self) -> None:
        command = [sys.executable, "-m", "decision", "--home", str(self.home.path)]
        self.process = subprocess.Popen(command, stderr=self.log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self._bus.close()
        self.log.close()
        shutil.rmtree(self.home.runtime, ignore_errors=True)
        if self._failure is not None:
            raise self._failure
        assert code == 0

    def wait(self, until: Callable[[], object], within_s: float = 10) -> None:
        end_s = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end_s, (self.process.poll(), self.events, list(self.verdicts.values())[-1:])
            time.sleep(0.01)

    def wait_version(self, version: int) -> None:
        self.wait(lambda: self.last.recipe_version == version)

    @property
    def last(self) -> Verdict:
        return self.verdicts[max(self.verdicts)]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def asserts_whole(self) -> list[Verdict]:
        """Stop the parts; every one has one verdict, none is a FAULT."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert sorted(self.verdicts) == list(range(1, self.parts + 1))
        found = [self.verdicts[number] for number in sorted(self.verdicts)]
        assert [one.reasons for one in found if one.verdict is Judgement.FAULT] == []
        return found

    def _run(self) -> None:
        try:
            enlist_s = part_s = again_s = 0.0
            ends_s = math.inf
            while not self._stop.is_set() or len(self.verdicts) < self.parts:
                now_s = time.monotonic()
                ends_s = min(ends_s, now_s + 10) if self._stop.is_set() else math.inf
                assert now_s < ends_s, f"{self.parts - len(self.verdicts)} parts have no verdict"
                if now_s > again_s:  # as camera and worker do where the decision stage was killed
                    again_s = now_s + 1.0
                    for number in [number for number in self._sent if number not in self.verdicts]:
                        self._send(number)
                if now_s > enlist_s:
                    enlist_s = now_s + 0.1
                    bus.send(self._camera, Enlist(camera="front", workers=1))
                if now_s > part_s and not self._stop.is_set():
                    part_s = now_s + 0.01
                    self._part()
                self._hear()
        except BaseException as error:  # noqa: BLE001 - a thread's outermost edge: the test raises it again
            self._failure = error

    def _part(self) -> None:
        self.parts += 1
        part_id, now_ns = f"sw-r1-{self.parts:08}", time.monotonic_ns()
        trigger = Trigger(
            part_id=part_id,
            sequence=self.parts,
            station="sw",
            camera="front",
            views=("front",),
            recipe=self._recipe,
            trigger_ns=now_ns,
            trigger_time_ns=time.time_ns(),
            deadline_ns=now_ns + 8_000_000_000,
        )
        prediction = Prediction(
            frame_id=f"{part_id}/front",
            part_id=part_id,
            camera="front",
            score=self.peak,
            map_shape=(8, 8),
            frame_shape=(80, 80, 3),
            bundle_digest="d",
            worker="worker-0",
            batch_size=1,
            received_ns=now_ns,
            started_ns=now_ns,
            finished_ns=now_ns,
        )
        anomaly_map = np.zeros((8, 8), np.float32)
        anomaly_map[4, 4] = self.peak
        self._sent[self.parts] = (trigger, Predictions(each=(prediction,)), anomaly_map.tobytes())
        self._send(self.parts)

    def _send(self, number: int) -> None:
        trigger, predictions, maps = self._sent[number]
        bus.send(self._camera, trigger)
        bus.send(self._worker, predictions, [maps])

    def _hear(self) -> None:
        while self._camera.poll(0):
            parts = self._camera.recv_multipart()
            told = decode(parts)[0] if parts != [b""] else None
            if isinstance(told, Job):
                self._recipe = told.recipe
        while self._records.poll(2):
            peer, *parts = self._records.recv_multipart()
            if parts == [b""]:
                continue
            message, _ = decode(parts)
            if isinstance(message, Verdict):
                assert self.verdicts.setdefault(message.sequence, message) == message
            elif isinstance(message, Event) and message not in self.events:
                self.events.append(message)
            record_id = getattr(message, "record_id", "")
            bus.send(self._records, Recorded(record_ids=(record_id,), journalled_ns=0), to=peer)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Line, LeadingPlc]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    plc = LeadingPlc(port, 0)
    plc.start()
    line = Line(tmp_path, port)
    try:
        line.wait(lambda: line.verdicts)
        yield line, plc
    finally:
        line.stop()
        plc.stop()


def changes(verdicts: list[Verdict]) -> list[tuple[str, int]]:
    """Return recipe and version from part to part, where they differ from the part before."""
    named = [(one.recipe, one.recipe_version) for one in verdicts]
    return [one for index, one in enumerate(named) if index == 0 or one != named[index - 1]]


def replace(file: Path, written: str) -> None:
    other = file.with_suffix(".new")
    other.write_text(written)
    other.replace(file)


def test_an_edited_file_counts_from_one_part_on_and_a_bad_one_changes_nothing(made: tuple[Line, LeadingPlc]) -> None:
    line, _ = made
    assert line.last.verdict is Judgement.REJECT
    mask = line.file.with_name("roi.png")
    cv2.imwrite(str(mask), np.full((80, 80), 255, np.uint8))
    line.file.write_text(content(2, reject_above=4.0))
    line.wait_version(2)
    assert line.last.verdict is Judgement.REVIEW
    line.wait(lambda: line.named("recipe_version"))
    (told,) = line.named("recipe_version")
    assert f"cap: version 2, {line.last.recipe_digest}, is in force; before: version 1" in told.detail

    replace(line.file, content(2, reject_above=9.0))  # another content of the same version
    line.wait(lambda: [one.state for one in line.named("recipe_refused")] == ["BEGAN"])
    began = line.named("recipe_refused")[0]
    assert began.detail == f"{line.file}: version: 2 has had another content: make it 3 or more"
    assert began.severity == "WARNING"
    line.file.write_text(content(3)[:70])  # half of it, for good: refused all along, and told once
    time.sleep(1.5)
    with line.file.open("w") as file:  # an editor that takes its time
        for half in (content(3, more='roi = "roi.png"\n')[:50], content(3, more='roi = "roi.png"\n')[50:]):
            file.write(half)
            file.flush()
            time.sleep(0.4)
    line.wait_version(3)
    assert line.last.verdict is Judgement.REJECT
    line.wait(lambda: [one.state for one in line.named("recipe_refused")] == ["BEGAN", "ENDED"])

    cv2.imwrite(str(mask), np.pad(np.full((40, 80), 255, np.uint8), ((40, 0), (0, 0))))  # a picture is content, too
    line.wait(lambda: len(line.named("recipe_refused")) == 3)
    replace(line.file, content(4, more='roi = "roi.png"\n'))
    line.wait_version(4)
    replace(line.file, content(2, reject_above=4.0))  # back to what was in force once, exactly
    line.wait_version(2)
    assert changes(line.asserts_whole()) == [("cap", 1), ("cap", 2), ("cap", 3), ("cap", 4), ("cap", 2)]
    named = {(one.recipe_version, one.recipe_digest) for one in line.verdicts.values()}
    assert len(named) == 4, "each version is one content"
    kept = line.home.path / "versions"
    assert all((kept / f"{digest.removeprefix('sha256:')}.json").exists() for _, digest in named)


def test_a_stage_that_is_killed_comes_back_with_what_is_in_force_whatever_the_file_says(
    made: tuple[Line, LeadingPlc],
) -> None:
    line, _ = made
    line.file.write_text(content(2))
    line.wait_version(2)
    line.file.write_text("product = ")
    line.wait(lambda: line.named("recipe_refused"))
    line.kill()
    line.begin()
    count = len(line.verdicts)
    line.wait(lambda: len(line.verdicts) > count + 50)
    assert line.last.recipe_version == 2
    line.file.write_text(content(3))
    line.wait_version(3)


Andon = Callable[..., tuple[int, str, str]]


@pytest.fixture
def andon(
    made: tuple[Line, LeadingPlc],
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Andon:
    """Give `andon recipe` at this line, and a database of the test's own in ANDON_DATABASE_URL."""
    monkeypatch.setenv("ANDON_DATABASE_URL", servers.database())

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["recipe", *words, "--home", str(made[0].home.path)])
        return code, *capsys.readouterr()

    return run


def audited(url: str) -> list[tuple[str, ...]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        asked = "SELECT who, action, subject FROM audit WHERE action LIKE 'recipe.%' ORDER BY number"
        rows = connection.execute(text(asked)).all()
    engine.dispose()
    return [tuple(row) for row in rows]


def test_a_person_switches_to_another_recipe_unless_the_plc_asks_for_one(
    made: tuple[Line, LeadingPlc], andon: Andon
) -> None:
    line, plc = made
    assert line.last.recipe == "cap"
    code, out, err = andon("activate", "lid", "--by", "Ada", "--json")
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    assert (answer["active"], answer["plc_job"]) == ("lid", 0)
    line.wait(lambda: line.last.recipe == "lid")
    line.wait(lambda: plc.words[ACTIVE_JOB] == 2)
    line.wait(lambda: [one.detail for one in line.named("changeover")] == ["lid by Ada; before: cap"])
    code, _, err = andon("activate", "lied")
    assert code == EXIT_USAGE
    assert "there is no recipe 'lied': the station has cap, lid" in err
    line.kill()
    line.begin()
    count = len(line.verdicts)
    line.wait(lambda: len(line.verdicts) > count + 100)
    assert line.last.recipe == "lid", "what was chosen outlives the process"

    plc.job = 1
    line.wait(lambda: line.last.recipe == "cap")
    code, _, err = andon("activate", "lid")
    assert code == EXIT_USAGE
    assert "the PLC chooses: it asks for job 1" in err
    code, out, _ = andon("list")
    assert code == 0
    assert out.splitlines()[1].startswith("*  cap")
    assert "the PLC chooses: it asks for job 1" in out
    plc.job = 0
    line.wait(lambda: andon("activate", "lid", "--by", "Bo")[0] == 0)
    line.wait(lambda: line.last.recipe == "lid")
    found = audited(os.environ["ANDON_DATABASE_URL"])
    assert found == [("Ada", "recipe.activated", "lid"), ("Bo", "recipe.activated", "lid")]


def test_the_console_switches_for_its_own_page_alone(made: tuple[Line, LeadingPlc], servers: Servers) -> None:
    line, _ = made
    url = servers.database()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    running = line.home.read_station()
    line.home.write_station(running.model_copy(update={"console": running.console.model_copy(update={"port": port})}))
    environment = {**os.environ, "ANDON_DATABASE_URL": url, "ANDON_REDIS_URL": servers.valkey.url}
    console = subprocess.Popen(
        [sys.executable, "-m", "deploy.console", "--home", str(line.home.path)], env=environment, stderr=line.log
    )

    def ask(method: str, path: str, body: str = "", **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(
                method, path, body, headers={name.replace("_", "-"): said for name, said in headers.items()}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except ConnectionRefusedError:
            return 0, None
        finally:
            connection.close()

    try:
        line.wait(lambda: ask("GET", "/api/recipes")[0] == 401)
        cookie = {"Cookie": f"andon-sw={signed_in.session(url, line.home.path, 'bo', Role.OPERATOR)}"}
        assert ask("GET", "/api/recipes", **cookie)[1]["active"] == "cap"
        wanted, as_json = json.dumps({"recipe": "lid"}), {"Content_Type": "application/json"} | cookie
        for foreign in (
            {**as_json, "Origin": "http://elsewhere.example"},
            {**as_json, "Sec_Fetch_Site": "cross-site"},
            {**as_json, "Sec_Fetch_Site": "same-site"},
            {**as_json, "Origin": "null"},
            as_json,
        ):
            assert ask("POST", "/api/recipes/active", wanted, **foreign)[0] == 403, foreign
        own = {**as_json, "Origin": f"http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}
        assert ask("POST", "/api/recipes/active", wanted, **{**own, "Content_Type": "text/plain"})[0] == 415
        assert ask("POST", "/api/recipes/active", json.dumps({"recipe": "x"}), **own)[0] == 422
        assert line.last.recipe == "cap"
        code, answer = ask("POST", "/api/recipes/active", wanted, **own)
        assert (code, answer["active"]) == (200, "lid")
        line.wait(lambda: line.last.recipe == "lid")
        assert audited(url) == [("bo", "recipe.activated", "lid")]
        program = as_json | signed_in.bearer(url, line.home.path, Role.VIEWER)
        assert ask("POST", "/api/recipes/active", wanted, **program)[0] == 403
        program = as_json | signed_in.bearer(url, line.home.path, Role.OPERATOR)
        assert ask("POST", "/api/recipes/active", json.dumps({"recipe": "cap"}), **program)[0] == 200
        line.wait(lambda: line.last.recipe == "cap")
    finally:
        console.terminate()
        console.wait(10)
