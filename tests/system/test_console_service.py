"""The console process with real servers and the real storage process: its API, its events, its end."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest
import redis
from console_process import CAMERAS, REJECT_ABOVE, REVIEW_ABOVE, ConsoleProcess, Inspected, inspected
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import Servers
from storage_process import storage, until

from config.errors import EXIT_CONFIGURATION
from config.messages import Judgement
from storage.console.api import PartsQuery
from storage.console.search import Search

PASS, REJECT, REVIEW, FAULT = Judgement


@pytest.fixture(scope="module")
def station(running_servers: Servers) -> Iterator[Inspected]:
    """A station with some parts."""
    running_servers.ready()
    with inspected(running_servers) as made:
        for judgement in (PASS, REJECT, REVIEW, FAULT, PASS):
            made.line.part(judgement)
        made.line.part(REJECT, "board", seen=False)
        until(lambda: made.console.json("/api/counts")["total"] == 6, made.console.said)
        yield made


class Events:
    """A browser that follows."""

    def __init__(self, console: ConsoleProcess, last: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=10)
        missed = {"Last-Event-ID": last} if last else {}
        self._connection.request("GET", "/events", headers=console.credentials | missed)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        assert self._answer.headers["content-type"].startswith("text/event-stream")
        self.last = last

    def next(self, *kinds: str) -> tuple[str, Any]:
        """Return the next event of one of these kinds."""
        while True:
            kind, data = "", None
            while (line := self._answer.readline().decode()) != "\n":
                assert line, "the stream ended"
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self.last = value
                elif name == "data":
                    data = json.loads(value)
            if kind in kinds:
                return kind, data

    def until_end(self) -> None:
        while self._answer.readline():
            pass

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


def parts(station: Inspected, query: str) -> list[dict[str, Any]]:
    return station.console.json(f"/api/parts?{query}")["parts"]  # type: ignore[return-value]  # as the API says


def test_filters_find_what_they_say(station: Inspected) -> None:
    assert [part["sequence"] for part in parts(station, "")] == [6, 5, 4, 3, 2, 1]
    assert [part["sequence"] for part in parts(station, "verdicts=REJECT&verdicts=FAULT")] == [6, 4, 2]
    assert [part["sequence"] for part in parts(station, "product=board")] == [6]
    assert [part["sequence"] for part in parts(station, f"score_min={REJECT_ABOVE}")] == [6, 2]
    assert [part["sequence"] for part in parts(station, "reason=LATE")] == [4]
    assert parts(station, "until=2020-01-01T00:00:00Z") == []
    counts = station.console.json("/api/counts?product=bracket")
    verdicts = {"PASS": 2, "REJECT": 1, "REVIEW": 1, "FAULT": 1}
    assert counts == {"total": 5, "verdicts": verdicts, "at_least": False}


def test_rates_and_choices_tell_of_what_there_is(station: Inspected) -> None:
    rates: Any = station.console.json("/api/rates?bucket=week")
    assert sum(point["parts"] for point in rates["points"]) == station.console.json("/api/counts")["total"]
    choices: Any = station.console.json("/api/choices")
    assert {choice["name"] for choice in choices["cameras"]} == set(CAMERAS)
    bundle = choices["bundles"][0]["name"]
    assert parts(station, f"bundle={bundle}")
    status, _, page = station.console.get(f"/defects?when=all&line={choices['lines'][0]['name']}&review=unreviewed")
    assert status == 200
    assert b'<option value="unreviewed" selected>' in page


_NAMES = [*PartsQuery.model_fields, *Search.model_fields, "bucket", "colour"]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["/api/parts", "/api/counts", "/api/rates", "/defects"]), st.data())
def test_any_query_string_is_answered_or_refused(station: Inspected, path: str, data: st.DataObject) -> None:
    values = st.text(max_size=20) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["true", "REJECT"])
    query = data.draw(st.lists(st.tuples(st.sampled_from(_NAMES), values), max_size=4))
    status, _, body = station.console.get(f"{path}?{urlencode(query)}")
    assert status in {200, 422}, body


def test_pages_follow_each_other_without_gap_or_repetition(station: Inspected) -> None:
    seen, after = [], ""
    while True:
        page = station.console.json(f"/api/parts?limit=4{after}")
        seen += [part["sequence"] for part in page["parts"]]  # type: ignore[attr-defined]  # as the API says
        if page["after"] is None:
            break
        after = f"&after={page['after']}"
    assert seen == [6, 5, 4, 3, 2, 1]


def test_part_has_views_maps_and_images(station: Inspected) -> None:
    part_id = parts(station, "verdicts=REJECT&product=bracket")[0]["part_id"]
    part = station.console.json(f"/api/parts/{part_id}")
    top: Any = next(view for view in part["details"] if view["camera"] == "top")  # type: ignore[attr-defined]  # so it is
    assert top["verdict"] == "REJECT"
    assert top["regions"]
    assert (top["review_above"], top["reject_above"]) == (REVIEW_ABOVE, REJECT_ABOVE)
    found: Any = station.console.json(f"/api/parts/{part_id}/views/top/map")
    levels = np.frombuffer(base64.b64decode(found["levels"]), np.uint8).reshape(found["height"], found["width"])
    scores = found["low"] + levels / 255 * (found["high"] - found["low"])
    assert scores.max() == pytest.approx(top["score"], abs=1e-3)
    assert scores.max() == found["high"]
    for path, side_px in (("image", 256), ("live", 256), ("crop?region=0", None), ("image?side_px=96", 96)):
        status, headers, body = station.console.get(f"/api/images/{part_id}/top/{path}")
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        assert "immutable" in headers["cache-control"]
        pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        assert side_px is None or max(pixels.shape) == side_px


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/parts?limit=0", 422, "limit"),
        ("/api/parts?verdicts=GOOD", 422, "verdicts"),
        ("/api/parts?score_min=nan", 422, "score_min"),
        ("/api/parts?since=2026-01-01T00:00:00", 422, "since"),
        ("/api/parts?score_min=2&score_max=1", 422, "score_min"),
        ("/api/parts?colour=red", 422, "colour"),
        ("/api/parts?after=nonsense", 422, "after"),
        ("/api/parts/st-r1-99999999", 404, "st-r1-99999999"),
        ("/api/parts/%00", 422, "part_id"),
        ("/api/parts/st-r1-00000004/views/top/map", 404, "top"),
        ("/api/images/st-r1-00000001/top/image", 404, "image"),
        ("/api/images/st-r1-00000001/top/secret", 422, "purpose"),
        ("/api/images/st-r1-00000002/top/crop?region=9", 404, "region 9"),
        ("/api/images/st-r1-00000002/top/image?side_px=100000", 422, "side_px"),
        ("/api/images/..%2f..%2fetc%2fpasswd/top/image", 404, ""),
        ("/api/nothing", 404, ""),
    ],
)
def test_wrong_requests_say_what_is_wrong(station: Inspected, path: str, status: int, says: str) -> None:
    answered, headers, body = station.console.get(path)
    assert (answered, headers["content-type"]) == (status, "application/json")
    assert says in json.loads(body)["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/defects?score_min=x", 422),
        ("/defects?when=custom&since=2026-01-02T00:00&until=2026-01-01T00:00", 422),
        ("/parts/nothing", 404),
        ("/parts/<script>alert(1)<%2fscript>", 404),
        ("/defects?product=<script>alert(1)</script>", 200),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/%2e%2e/app.py", 404),
    ],
)
def test_pages_never_show_what_they_are_asked_raw(station: Inspected, path: str, status: int) -> None:
    answered, headers, body = station.console.get(path.replace("<", "%3C").replace(">", "%3E"))
    assert (answered, headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert b"alert(1)<" not in body
    assert b"<script>" not in body


@pytest.mark.parametrize("path", ["/", "/defects", "/parts/st-r1-00000002", "/api/counts", "/nothing", "/healthz"])
def test_every_answer_carries_the_security_headers(station: Inspected, path: str) -> None:
    _, headers, _ = station.console.get(path)
    policy = headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_name_of_somebody_elses_is_refused(station: Inspected) -> None:
    assert station.console.get("/healthz", Host="evil.example")[0] == 400
    assert station.console.get("/healthz", Host=f"localhost:{station.console.port}")[0] == 200


def test_openapi_describes_every_path_of_the_api(station: Inspected) -> None:
    described: Any = station.console.json("/api/openapi.json")
    assert set(described["paths"]) >= {
        "/api/choices",
        "/api/counts",
        "/api/health",
        "/api/images/{part_id}/{camera}/{purpose}",
        "/api/parts",
        "/api/parts/{part_id}",
        "/api/parts/{part_id}/views/{camera}/map",
        "/api/rates",
        "/api/recipes",
        "/api/recipes/active",
        "/events",
    }
    schema = described["paths"]["/api/parts"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Page"}


def test_events_tell_of_parts_pictures_and_gate(station: Inspected) -> None:
    browser = Events(station.console)
    _, snapshot = browser.next("snapshot")
    assert [part["sequence"] for part in snapshot["parts"]][-1] == station.line.sequence
    part_id = station.line.part(REVIEW)
    told: dict[str, Any] = {}
    while {"views", "gate", "pictures"} - told.keys() or told["pictures"] != dict.fromkeys(CAMERAS, "image"):
        _, data = browser.next("part", "change")
        if data["part_id"] == part_id:
            told |= data
    assert told["gate"] == {"command": "REJECT", "taken": True, "outcome": "EJECTED"}
    status = browser.next("status")[1]
    assert status["light"]["state"] == "RUNNING"
    until(lambda: browser.next("status")[1]["verdicts"]["REVIEW"] == 2)
    browser.close()
    missed = station.line.part(PASS)
    time.sleep(0.5)
    again = Events(station.console, browser.last)
    assert again.next("snapshot", "part")[1]["part_id"] == missed
    again.close()


def test_readers_of_redis_do_not_grow_with_browsers(station: Inspected) -> None:
    client = redis.Redis.from_url(station.servers.valkey.url)

    def connections() -> int:
        return len(client.client_list())

    before = connections()
    browsers = [Events(station.console) for _ in range(30)]
    for browser in browsers:
        browser.next("status")
    assert connections() == before
    health: Any = station.console.json("/api/health")
    assert health["browsers"] == 30
    for browser in browsers:
        browser.close()
    until(lambda: station.console.json("/api/health")["browsers"] == 0)
    client.close()


def test_browser_that_does_not_read_is_dropped_and_holds_up_nobody(station: Inspected) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.connect(("127.0.0.1", station.console.port))
    signed_in = station.console.credentials["Authorization"]
    slow.sendall(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {signed_in}\r\n\r\n".encode())
    quick = Events(station.console)
    quick.next("snapshot")
    client = redis.Redis.from_url(station.servers.valkey.url)
    stream = "andon:st:parts"
    entry = client.xrevrange(stream, count=1)[0][1]  # type: ignore[index]  # redis-py allows for no answer
    verdict = json.loads(entry[b"verdict"])
    sent = 0
    while station.console.json("/api/health")["browsers_dropped"] == 0:
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(300):
                sent += 1
                verdict |= {"part_id": f"st-r1-{50_000 + sent:08}", "sequence": 50_000 + sent}
                pipeline.xadd(stream, {"part_id": verdict["part_id"], "verdict": json.dumps(verdict)}, maxlen=500)
            pipeline.execute()
        while quick.next("part")[1]["sequence"] != 50_000 + sent:
            pass
        assert sent < 60_000, "a browser that never reads was never dropped"
    quick.close()
    slow.close()
    client.close()


def test_health_names_what_is_wrong(station: Inspected) -> None:
    station.line.say("decision", state="DEGRADED", detail="PLC is away")

    def states() -> dict[str, str]:
        report: Any = station.console.json("/api/health")
        return {service["service"]: service["state"] for service in report["services"]}

    until(lambda: states()["decision"] == "DEGRADED")
    report: Any = station.console.json("/api/health")
    assert report["light"] == {"state": "DEGRADED", "causes": ["decision is degraded: PLC is away"]}
    assert (report["redis"], report["postgresql"]) == (None, None)
    station.line.say("decision")
    until(lambda: states()["decision"] == "READY")


def test_servers_may_go_and_come(station: Inspected) -> None:
    servers, console = station.servers, station.console
    browser = Events(console)
    before = len(console.lines())  # a machine that stood still for 2 s was an outage, too, in a test before
    servers.valkey.kill()
    while True:
        _, status = browser.next("status")
        if status["light"]["state"] == "UNKNOWN":
            break
    assert any("Redis" in cause for cause in status["light"]["causes"])
    part_id = "st-r1-00000002"
    assert console.get(f"/api/images/{part_id}/top/image")[0] == 200
    assert console.get(f"/api/images/{part_id}/top/live")[0] == 503
    servers.postgres.kill()
    status_code, _, page = console.get("/defects")
    assert status_code == 503
    assert b'http-equiv="refresh"' in page
    assert b"Traceback" not in page
    assert console.get("/api/parts")[0] == 503
    assert console.get("/")[0] == 200
    assert console.get("/healthz")[0] == 200
    servers.ready()
    until(lambda: console.get("/defects")[0] == 200, console.said)
    station.line.beat()
    part_id = ""

    def shown() -> bool:
        nonlocal part_id
        part_id = station.line.part(PASS)
        return bool(browser.next("part", "status")[1].get("part_id"))

    until(shown, console.said)
    events = [line["event"] for line in console.lines()[before:]]
    assert events.count("redis_down began") == events.count("redis_down ended") == 1
    browser.close()


def test_starts_without_servers_says_ready_and_ends_at_once_with_streams_open(running_servers: Servers) -> None:
    running_servers.ready()
    with storage(running_servers) as kept:
        there = dict(kept.environment)
        kept.environment["ANDON_DATABASE_URL"] = "postgresql+psycopg://nobody@127.0.0.1:1/none"
        kept.environment["ANDON_REDIS_URL"] = "redis://127.0.0.1:1/0"
        console = ConsoleProcess(kept)
        console.credentials = {"Authorization": f"Bearer {'x' * 43}"}  # that nobody can look up
        console.start()
        try:
            heard = [(console.notified.recv(100), time.monotonic()) for _ in range(4)]
            assert {state for state, _ in heard} == {b"WATCHDOG=1"}
            assert heard[-1][1] - heard[0][1] < 3
            assert console.get("/defects")[0] == 503
            assert console.stop() < 0.6
            kept.environment.update(there)
            console = ConsoleProcess(kept)
            console.start()
            browsers = [Events(console) for _ in range(20)]
            idle = socket.create_connection(("127.0.0.1", console.port))
            for browser in browsers:
                browser.next("snapshot")
            assert console.stop() < 0.6  # 0.3 s where nothing else runs
            for browser in browsers:
                browser.until_end()
            idle.close()
        finally:
            console.kill()


def test_port_that_is_taken_and_urls_that_are_wrong_end_with_78(running_servers: Servers) -> None:
    running_servers.ready()
    with storage(running_servers) as kept, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        console = ConsoleProcess(kept, port=port)
        assert console.fail() == EXIT_CONFIGURATION
        assert f"127.0.0.1:{port}" in str(console.lines()[-1]["event"])
        kept.environment["ANDON_REDIS_URL"] = "http://here"
        assert console.fail() == EXIT_CONFIGURATION
        assert "ANDON_REDIS_URL" in str(console.lines()[-1]["event"])
        (kept.home.path / "station.json").write_text("{}")
        assert console.fail() == EXIT_CONFIGURATION
        assert "station.json" in str(console.lines()[-1]["event"])
