"""Lessons by the console's API, with a real teacher and a real fit: what is refused, what is killed, what is told."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import signed_in
from console_process import ConsoleProcess, Inspected, inspected
from live_servers import Servers
from sqlalchemy import create_engine, text
from storage_process import until

from config.messages import Evidence, Judgement
from config.wishes import Wishes
from ingest.parts.defects import Defect
from ingest.parts.rendering import render
from storage.people import Role

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "bracket.andon"
QUICK = {"detector": "patchcore", "options": {"size_px": 96, "taps": [4], "stride_px": 16, "bank": 50}}


@dataclasses.dataclass
class School:
    """A console, a teacher, and who asks."""

    station: Inspected
    environment: dict[str, str]
    teacher: subprocess.Popen[bytes]

    @property
    def console(self) -> ConsoleProcess:
        return self.station.console

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        raw = isinstance(body, bytes)
        content = body if raw else None if body is None else json.dumps(body).encode()
        kind = (
            {"Content-Type": "application/octet-stream" if raw else "application/json"} if content is not None else {}
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.console.port, timeout=30)
        with contextlib.closing(connection):
            whole = path if path.startswith("/api/") else f"/api/lessons{path}"
            connection.request(method, whole, content, self.console.credentials | kind | headers)
            answer = connection.getresponse()
            said = answer.read()
        return answer.status, json.loads(said) if said.startswith((b"{", b"[")) else said

    def do(self, method: str, path: str, body: object = None) -> Any:
        status, said = self.ask(method, path, body)
        assert status < 300, said
        return said

    def state(self, lesson_id: str) -> str:
        return str(self.do("GET", f"/{lesson_id}")["lesson"]["state"])

    def lesson(self, images: int = 10) -> str:
        """Begin a lesson, stop its collecting, and bring images."""
        begun = self.do("POST", "", {"recipe": "bracket", "camera": "top", "collecting": {"count": 50}})
        self.do("POST", f"/{begun['id']}/stop")
        for number in range(images):
            self.do("POST", f"/{begun['id']}/images?called=part-{number}.png", part(number))
        return str(begun["id"])

    def works(self) -> list[int]:
        """Return the processes that the teacher has at work."""
        listed = subprocess.run(
            ["/bin/ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.teacher.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(line.split()[0]) for line in listed.stdout.splitlines() if "deploy.teacher.work fit" in line]

    def start_teacher(self) -> None:
        command = [sys.executable, "-m", "deploy.teacher", "--home", str(self.console.home.path)]
        self.teacher = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)


def part(number: int) -> bytes:
    pixels = render("bracket", 7, number, side="top", width_px=320, height_px=320, defect=None).pixels
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def scratched(number: int) -> bytes:
    defect = Defect("scratch", 1.0)
    pixels = render("bracket", 7, 100 + number, side="top", width_px=320, height_px=320, defect=defect).pixels.copy()
    pixels[100:220, 100:220] = 255 - pixels[100:220, 100:220]
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture(scope="module")
def school(running_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    running_servers.ready()
    keys = str(tmp_path_factory.mktemp("keys"))
    with inspected(running_servers) as station:
        (station.console.home.path / "recipes" / "none.andon").write_bytes(DEMO.read_bytes())
        detectors = station.console.home.path / "lessons" / "detectors.json"
        detectors.parent.mkdir()
        detectors.write_text('{"detectors": []}')  # to find that out takes torch some seconds
        environment = {**station.console._environment, "ANDON_KEYS": keys}
        command = [sys.executable, "-m", "deploy.teacher", "--home", str(station.console.home.path)]
        teacher = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        school = School(station, environment, teacher)
        try:
            yield school
        finally:
            school.teacher.terminate()
            school.teacher.wait(10)


def test_cameras_are_told_while_a_lesson_collects_and_no_longer(school: School) -> None:
    wishes = Wishes(school.console.home.runtime)
    wanted = {"count": 50, "verdicts": ["PASS"], "every_parts": 3}
    begun = school.do("POST", "", {"recipe": "bracket", "camera": "top", "collecting": wanted})
    until(wishes.read, lambda: "no wish", 10)
    (wish,) = wishes.read()
    assert (wish.camera, wish.recipe, wish.every_parts) == ("top", "bracket", 3)
    assert 0 < wish.until_ns - time.monotonic_ns() < 30e9
    school.do("POST", f"/{begun['id']}/stop")
    until(lambda: not wishes.read(), lambda: "still wished for", 10)
    assert school.state(begun["id"]) == "READY"
    school.do("DELETE", f"/{begun['id']}")
    assert school.ask("GET", f"/{begun['id']}")[0] == 404


def exact_part(school: School, judgement: Judgement = Judgement.PASS) -> tuple[str, np.ndarray]:
    """Have a part judged whose top view's every pixel is stored; return it and them."""
    line, sequence = school.station.line, school.station.line.sequence + 1
    part_id = line.part(judgement)
    pixels = render("bracket", 7, sequence, side="top", width_px=320, height_px=320, defect=None).pixels
    found: Any = {}

    def stored() -> bool:
        status, _, content = school.console.get(f"/api/parts/{part_id}")
        found.update(json.loads(content))
        return status == 200

    until(stored, lambda: "not stored", 20)
    time_ns = round(datetime.fromisoformat(found["trigger_time"]).timestamp() * 1e6) * 1000
    header = Evidence(
        part_id=part_id,
        trigger_time_ns=time_ns,
        camera="top",
        purpose="image",
        region=None,
        encoding="png",
        width_px=320,
        height_px=320,
    )
    if judgement is Judgement.PASS:  # of others the line has sent a reduced one
        line._sender.send(header, [bytes(cv2.imencode(".png", pixels)[1].tobytes())])
        line._sender.finish()
    return part_id, pixels


def test_collected_images_are_the_cameras_pixels_and_others_are_passed_over(school: School) -> None:
    wanted = {"count": 3, "verdicts": ["PASS"]}
    lesson = school.do("POST", "", {"recipe": "bracket", "camera": "top", "collecting": wanted})["id"]
    time.sleep(2.5)  # before that, cameras need not have known
    school.station.line.part(Judgement.REJECT)
    school.station.line.part(Judgement.PASS, "board")
    parts = dict(exact_part(school) for _ in range(3))
    until(lambda: school.state(lesson) == "READY", lambda: str(school.do("GET", f"/{lesson}")), 30)
    standing = school.do("GET", f"/{lesson}")
    assert (standing["images"], standing["lesson"]["collected"]) == (3, 3)
    for part_id, pixels in parts.items():
        status, headers, content = school.console.get(f"/api/lessons/{lesson}/images/{part_id}.png")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) == pixels).all()


def test_picks_are_taken_where_every_pixel_was_kept(school: School) -> None:
    lesson = school.lesson(images=0)
    (exact, _), (reduced, _) = exact_part(school), exact_part(school, Judgement.REJECT)
    engine = create_engine(school.console.database)
    with engine.begin() as connection:
        for part_id, good in ((exact, True), (reduced, False)):
            connection.execute(
                text(
                    "INSERT INTO pick (part_id, camera, trigger_time, product, good, person) "
                    "VALUES (:part, 'top', now(), 'bracket', :good, 'ada')"
                ),
                {"part": part_id, "good": good},
            )
    engine.dispose()
    path = f"/api/images/{exact}/top/image"
    until(lambda: school.console.get(path)[0] == 200, lambda: "no image", 20)
    assert school.do("POST", f"/{lesson}/picks") == {"good": 1, "defects": 0, "known": 0, "not_exact": 1}
    assert school.do("POST", f"/{lesson}/picks") == {"good": 0, "defects": 0, "known": 1, "not_exact": 1}
    assert school.do("GET", f"/{lesson}/images")["images"] == [f"{exact}.png"]


def test_killed_fit_says_so(school: School) -> None:
    lesson = school.lesson()
    school.do("POST", f"/{lesson}/fit", QUICK)
    until(school.works, lambda: "no fit begins", 20)
    os.kill(school.works()[0], signal.SIGKILL)
    until(lambda: school.state(lesson) == "FAILED", lambda: school.state(lesson), 10)
    assert school.do("GET", f"/{lesson}")["lesson"]["detail"] == "the process ended while fitting: killed by SIGKILL"


@pytest.mark.slow
def test_killed_console_changes_nothing_of_a_fit(school: School) -> None:
    lesson = school.lesson()
    for number in range(2):
        school.do("POST", f"/{lesson}/images?defect_class=scratch", scratched(number))
    school.do("POST", f"/{lesson}/fit", QUICK)
    until(school.works, lambda: "no fit begins", 20)
    port = school.console.port
    school.console.kill()
    school.console.start(port)
    until(lambda: school.state(lesson) in {"FITTED", "FAILED"}, lambda: str(school.do("GET", f"/{lesson}")), 90)
    standing = school.do("GET", f"/{lesson}")
    assert standing["lesson"]["state"] == "FITTED", standing
    fitted = school.do("GET", f"/{lesson}/fitted")
    assert fitted["digest"] == standing["lesson"]["bundle_digest"]
    assert fitted["calibration"]["held_out_images"] == 10
    assert fitted["calibration"]["more_images"] > 0
    assert fitted["evaluation"]["escapes"] | {"low": 0, "high": 0} == {"events": 0, "parts": 2, "low": 0, "high": 0}
    status, _, content = school.console.get(f"/api/lessons/{lesson}/reports/evaluation")
    assert (status, b"scratch" in content) == (200, True)
    suspects = school.do("GET", f"/{lesson}/suspects/fit")
    worst = suspects["outlying"] + suspects["unusual"]
    status, headers, content = school.console.get(
        f"/api/lessons/{lesson}/pictures/fit/{worst[0]['picture']}?side_px=200"
    )
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
    status, headers, content = school.console.get(f"/api/lessons/{lesson}/reports/fit")
    assert status == 200
    assert headers["Content-Disposition"].startswith("attachment")
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_killed_teacher_leaves_no_work_behind_and_the_next_one_says_what_died(school: School) -> None:
    lesson = school.lesson()
    school.do("POST", f"/{lesson}/fit", QUICK)
    until(school.works, lambda: "no fit begins", 20)
    work = school.works()[0]
    school.teacher.kill()
    school.teacher.wait()
    until(lambda: not Path(f"/proc/{work}").exists() or _is_dead(work), lambda: "the work goes on", 5)
    school.start_teacher()
    until(lambda: school.state(lesson) == "FAILED", lambda: school.state(lesson), 10)
    assert "killed, or the station stopped" in school.do("GET", f"/{lesson}")["lesson"]["detail"]


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}


def test_stopped_fit_ends_and_leaves_the_images(school: School) -> None:
    lesson = school.lesson()
    school.do("POST", f"/{lesson}/fit", QUICK)
    until(school.works, lambda: "no fit begins", 20)
    school.do("POST", f"/{lesson}/stop")
    assert school.state(lesson) == "READY"
    until(lambda: not school.works(), lambda: "the fit goes on", 10)
    assert school.do("GET", f"/{lesson}")["images"] == 10


def test_unknown_options_are_what_a_lesson_says(school: School) -> None:
    lesson = school.lesson(images=8)
    school.do("POST", f"/{lesson}/fit", {"detector": "patchcore", "options": {"sise_px": 96}})
    until(lambda: school.state(lesson) == "FAILED", lambda: school.state(lesson), 60)
    assert "sise_px" in school.do("GET", f"/{lesson}")["lesson"]["detail"]


@pytest.mark.parametrize(
    ("path", "body", "what"),
    [
        ("/images", b"GIF89a", "is no PNG, JPEG or TIFF"),
        ("/images?called=a.png", part(1)[:-100], "truncated"),
        ("/images", bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1]), "the other images are 320 x 320"),
        ("/images", part(0), "the same image is there already"),
        ("/images?defect_class=../x", part(3), "defect_class"),
        ("/fit", {"detector": "../../etc"}, "detector"),
        ("/fit", {"detector": "patchcore", "alpha": 2}, "alpha"),
        ("/collect", {"count": 10**6}, "count"),
        ("/collect", {"count": 10, "verdicts": []}, "verdicts"),
        ("/shadow", {"every_parts": 1, "most": 100}, "does not follow"),
        ("/release", {"bundle_digest": "sha256:0", "review_above": 1, "reject_above": 2}, "its bundle is None"),
        ("/bring-back", None, "does not follow"),
    ],
)
def test_what_makes_no_sense_changes_nothing(school: School, path: str, body: object, what: str) -> None:
    lesson = _two_images(school)
    before = school.do("GET", f"/{lesson}")
    status, said = school.ask("POST", f"/{lesson}{path}", body)
    assert status == 422, said
    assert what in said["detail"]
    assert school.do("GET", f"/{lesson}") == before


def test_bodies_are_bound_and_paths_lead_nowhere(school: School) -> None:
    lesson = _two_images(school)
    assert school.ask("POST", f"/{lesson}/images", bytes(64 * 1024 * 1024 + 1))[0] in {413, 422}
    for path in ("/images/..%2f..%2flesson.json", "/images/lesson.json", "/pictures/fit/..%2f..%2flesson.json"):
        assert school.ask("GET", f"/{lesson}{path}")[0] in {404, 422}
    for other in ("..", "0" * 12, "%2e%2e", "x" * 12):
        assert school.ask("GET", f"/{other}")[0] in {404, 422}
    status, said = school.ask("PUT", f"/{lesson}/left-out", {"images": ["none.png"], "out": True})
    assert (status, "there is no image" in said["detail"]) == (422, True)


def test_what_is_installed_is_not_fetched(school: School) -> None:
    status, said = school.ask("POST", "/api/learning/fetch", {})
    assert (status, said["detail"]) == (422, "what learning needs is installed already")
    assert school.ask("GET", "/api/learning")[1] == {"able": True, "fetch": None}


def test_only_engineers_teach_and_everything_is_in_the_audit_trail(school: School) -> None:
    lesson = _two_images(school)
    home = school.console.home.path
    mine = school.console.credentials
    school.console.credentials = signed_in.bearer(school.console.database, home, Role.OPERATOR)
    try:
        assert school.ask("GET", f"/{lesson}")[0] == 200
        for path in ("collect", "check", "fit", "shadow", "stop", "cancel", "picks", "release", "bring-back"):
            assert school.ask("POST", f"/{lesson}/{path}", {})[0] == 403, path
        assert school.ask("DELETE", f"/{lesson}")[0] == 403
        assert school.ask("POST", "", {"recipe": "bracket", "camera": "top"})[0] == 403
    finally:
        school.console.credentials = mine
    name = school.do("GET", f"/{lesson}/images")["images"][0]
    school.do("PUT", f"/{lesson}/left-out", {"images": [name], "out": True})
    engine = create_engine(school.console.database)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT action, who, before, after FROM audit WHERE subject = :lesson ORDER BY number"),
            {"lesson": lesson},
        ).all()
    engine.dispose()
    assert [row.action for row in rows[:2]] == ["lesson.begun", "lesson.stopped"]
    assert rows[-1].action == "lesson.left_out"
    assert all(row.who.startswith("program-admin (token ") for row in rows)
    assert json.loads(rows[-1].before)["left_out"] == 0
    assert json.loads(rows[-1].after)["images"] == [name]


_KEPT: dict[int, str] = {}


def _two_images(school: School) -> str:
    """Return the one lesson with two images that several tests refuse things of."""
    if id(school) not in _KEPT:
        _KEPT[id(school)] = school.lesson(images=2)
    return _KEPT[id(school)]
