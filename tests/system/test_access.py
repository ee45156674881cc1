"""Who gets in at the console: every route it has, tried without a session, with too low a role, and from elsewhere."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import signed_in
from console_process import Inspected, inspected
from fastapi.routing import APIRoute, APIRouter
from live_servers import Servers
from sqlalchemy import create_engine, select, text
from sqlalchemy.pool import NullPool
from starlette.routing import BaseRoute, Route
from storage_process import until

from config.messages import Judgement
from storage.console.access import least_role
from storage.console.app import make_app
from storage.console.context import Console
from storage.console.door import is_open
from storage.people import Role
from storage.roster import Roster
from storage.schema import metadata
from storage.tokens import Tokens

COOKIE = "andon-st"
OPEN = {"/healthz", "/sign-in", "/api/sign-in"}
OPEN |= {"/sign-in/provider", "/sign-in/provider/back"}  # who goes there is not signed in yet
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookie(self) -> str:
        return (self.headers["set-cookie"] or "").partition(";")[0].partition("=")[2]


class Door:
    """A console, asked as browsers and programs ask."""

    def __init__(self, station: Inspected) -> None:
        self.station = station
        self.database, self.home = station.console.database, station.console.home.path
        self.origin = {"Origin": station.console.url}

    def ask(self, method: str, path: str, said: object = None, cookie: str = "", **headers: str) -> Answer:
        """Send JSON, or bytes as they are; headers' names are written with underscores."""
        body = said if isinstance(said, bytes) or said is None else json.dumps(said).encode()
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie:
            sent["Cookie"] = f"{COOKIE}={cookie}"
        connection = http.client.HTTPConnection("127.0.0.1", self.station.console.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def own(self, method: str, path: str, said: object = None, cookie: str = "", **headers: str) -> Answer:
        """Ask as a page of the console itself does."""
        return self.ask(method, path, said, cookie, **self.origin, **headers)

    def sign_in(self, name: str, password: str, cookie: str = "", **headers: str) -> Answer:
        return self.own("POST", "/api/sign-in", {"name": name, "password": password}, cookie, **headers)

    def session(self, name: str, role: Role) -> str:
        return signed_in.session(self.database, self.home, name, role)

    def roster(self, act: Callable[[Roster], object]) -> Any:
        with signed_in.ledger(self.database, self.home) as ledger:
            return act(Roster(ledger))

    def audited(self, action: str) -> list[tuple[str, str, str]]:
        engine = create_engine(self.database, poolclass=NullPool)
        asked = text("SELECT who, subject, coalesce(after, '') FROM audit WHERE action = :action ORDER BY number")
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(asked, {"action": action})]


@pytest.fixture(scope="module")
def door(running_servers: Servers) -> Iterator[Door]:
    running_servers.ready()
    with inspected(running_servers) as made:
        made.line.part(Judgement.REJECT)
        until(lambda: made.console.json("/api/counts")["total"] == 1, made.console.said)
        yield Door(made)


def _flat(routes: list[BaseRoute]) -> Iterator[Route]:
    for route in routes:
        if isinstance(route, Route):
            yield route
        inner = getattr(route, "original_router", None)
        if isinstance(inner, APIRouter):
            yield from _flat(inner.routes)


def served() -> list[Route]:
    """Return every route that the console has, whoever wrote it."""
    section = SimpleNamespace(host="127.0.0.1", url=None)
    station = SimpleNamespace(station="st", console=section)
    return list(_flat(make_app(cast("Console", SimpleNamespace(station=station, private=True))).routes))


def _filled(route: Route) -> str:
    """Return a route's path with something plausible in it."""
    path = route.path_format
    for name in route.param_convertors:
        path = path.replace("{" + name + "}", "1")
    return path


def test_route_table_is_the_whole_one() -> None:
    paths = {route.path_format for route in served()}
    assert {"/", "/events", "/api/openapi.json", "/people", "/api/recipes/active", "/api/parts/{part_id}"} <= paths
    assert len(paths) > 30
    assert {path for path in paths if is_open(path)} <= OPEN, "open to everybody, and nobody has thought about it"


def test_without_a_session_every_route_refuses(door: Door) -> None:
    stale = secrets.token_urlsafe(32)
    for route in served():
        path = _filled(route)
        if is_open(path):
            continue
        for method in METHODS:
            for cookie in ("", stale) if method in {"GET", "POST"} else ("",):
                answer = door.own(method, path, {} if method in {"POST", "PUT", "PATCH"} else None, cookie)
                if path.startswith("/api/") or path == "/events":
                    assert answer.status == 401, (method, path, answer.body)
                    assert "Bearer" in answer.headers["www-authenticate"]
                else:
                    assert answer.status == 303, (method, path, answer.body)
                    assert answer.headers["location"].startswith("/sign-in")
        assert door.ask("GET", path, Authorization=f"Bearer andon_{stale}").status in {401, 303}
        assert door.ask("GET", path, Authorization="Basic YWRtaW46YWRtaW4=").status in {401, 303}


def test_with_too_low_a_role_every_route_refuses(door: Door) -> None:
    cookies = {role: door.session(f"low-{role.value.lower()}", role) for role in Role}
    tried = 0
    for route in served():
        if not isinstance(route, APIRoute) or is_open(route.path):
            continue
        for role in (role for role in Role if role < least_role(route)):
            for method in route.methods:
                body = {} if method in {"POST", "PUT", "PATCH"} else None
                answer = door.own(method, _filled(route), body, cookies[role])
                # a body that makes no sense may be told before the role is looked at; nothing is done either way
                assert answer.status in ({403, 422, 415} if body is not None else {403}), (method, route.path, role)
                tried += 1
    assert tried > 10


def test_what_changes_something_asks_for_more_than_looking() -> None:
    own = {"/api/sign-in", "/api/sign-out", "/api/password"}
    own |= {"/api/recipes/{name}/what-if"}  # reckons, and changes nothing
    for route in served():
        if isinstance(route, APIRoute) and route.methods - {"GET", "HEAD"} and route.path not in own:
            assert least_role(route) > Role.VIEWER, f"{route.methods} {route.path} is for everybody who may look"


def test_sign_in_sets_a_cookie_that_no_script_and_no_other_site_gets(door: Door) -> None:
    signed_in.person(door.database, door.home, "cleo", Role.VIEWER)
    answer = door.sign_in(" Cleo ", signed_in.PASSWORD)
    assert answer.status == 204
    sent = answer.headers["set-cookie"]
    assert sent.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in sent.split(";")}
    assert len(answer.cookie) >= 43
    assert door.ask("GET", "/api/me", cookie=answer.cookie).json["name"] == "cleo"
    assert door.audited("person.signed_in")[-1][:2] == ("cleo", "cleo")
    assert answer.cookie not in dump(door), "a session's secret is stored"
    assert signed_in.PASSWORD not in dump(door)


def dump(door: Door) -> str:
    """Return all that is stored of people, and the console's log."""
    engine = create_engine(door.database, poolclass=NullPool)
    with engine.connect() as connection:
        tables = [
            str(connection.execute(select(metadata.tables[name])).all())
            for name in ("person", "session", "token", "audit")
        ]
    return "".join(tables) + door.station.console.said()


def test_a_session_that_somebody_planted_is_not_taken_over(door: Door) -> None:
    signed_in.person(door.database, door.home, "dora", Role.VIEWER)
    planted = secrets.token_urlsafe(32)
    answer = door.sign_in("dora", signed_in.PASSWORD, planted)
    assert answer.cookie not in {"", planted}
    assert door.ask("GET", "/api/me", cookie=planted).status == 401
    again = door.sign_in("dora", signed_in.PASSWORD, answer.cookie)
    assert again.cookie not in {"", answer.cookie}
    until(lambda: door.ask("GET", "/api/me", cookie=answer.cookie).status == 401)
    assert door.own("POST", "/api/sign-out", cookie=again.cookie).status == 204
    assert door.ask("GET", "/api/me", cookie=again.cookie).status == 401


def test_other_sites_change_nothing(door: Door) -> None:
    admin = door.session("erin", Role.ADMIN)
    port = door.station.console.port
    new = {"name": "intruder", "role": "ADMIN"}
    for elsewhere in (
        {},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {**door.origin, "Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "http://elsewhere.example"},
    ):
        assert door.ask("POST", "/api/people", new, admin, **elsewhere).status == 403, elsewhere
        assert door.ask("POST", "/api/sign-in", {"name": "erin", "password": "x"}, **elsewhere).status == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert door.own("POST", "/api/people", new, admin, Content_Type=kind).status == 415, kind
    assert "intruder" not in {one["name"] for one in door.ask("GET", "/api/people", cookie=admin).json}
    assert door.own("POST", "/api/people", {"name": "finn", "role": "VIEWER"}, admin).status == 201


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/x/..%2f..%2f..%2fstation.json",
        "/static/..%5c..%5cstation.json",
        "/static/../api/people",
        "/static/%2e%2e/api/people",
        "//api/people",
        "/sign-in/../api/people",
        "/sign-in/%2e%2e/people",
        "/healthz/../api/people",
        "/api/images/..%2f..%2f..%2fetc%2fpasswd/top/image",
        "/api/images/%2e%2e/%2e%2e/image",
        "/parts/..%2f..%2fstation.json",
    ],
)
def test_paths_lead_nowhere_else(door: Door, path: str) -> None:
    for cookie in ("", door.session("gus", Role.VIEWER)):
        answer = door.ask("GET", path, cookie=cookie)
        assert answer.status in {303, 401, 403, 404, 422}, answer.body
        assert b"root:" not in answer.body


def test_oversized_and_malformed_bodies_are_refused(door: Door) -> None:
    admin = door.session("hana", Role.ADMIN)
    large = b'{"name": "' + b"x" * (1024 * 1024) + b'", "role": "VIEWER"}'
    assert door.own("POST", "/api/people", large, admin).status == 413
    assert door.own("POST", "/api/sign-in", large).status == 413
    for body in (b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": 1, "role": []}', b"[" * 50_000, b'{"name":"x"}'):
        answer = door.own("POST", "/api/people", body, admin)
        assert answer.status in {400, 422}, (body[:20], answer.status)
        assert b"Traceback" not in answer.body
    deep = {"name": "x", "password": "y", "admin": True}
    assert door.own("POST", "/api/sign-in", deep).status == 422
    with socket.create_connection(("127.0.0.1", door.station.console.port), 10) as line:
        head = (
            f"POST /api/people HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nCookie: {COOKIE}={admin}\r\n"
        )
        line.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(40):  # without a Content-Length that could be looked at before
                line.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_script_in_a_name_is_refused_and_shown_harmless(door: Door) -> None:
    admin = door.session("iris", Role.ADMIN)
    for name in (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "a\nb",
        "a\x00b",
        "",
        "x" * 65,
        "supervisor",
    ):
        answer = door.own("POST", "/api/people", {"name": name, "role": "VIEWER"}, admin)
        assert answer.status == 422, name
        assert answer.headers["content-type"] == "application/json"
    page = door.ask("GET", "/sign-in?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert (page.status, b"<script>alert" in page.body) == (200, False)


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ("/defects?verdict=REJECT", "/defects?verdict=REJECT"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example", "/"),
        ("/%0d%0ax", "/%0d%0ax"),
        ("https://elsewhere.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/\telsewhere.example", "/"),
        ("/api/people", "/"),
        ("/sign-in?next=/x", "/"),
    ],
)
def test_sign_in_goes_on_to_pages_of_this_console_alone(door: Door, wanted: str, goes: str) -> None:
    known = door.session("jan", Role.VIEWER)
    path = "/sign-in?next=" + "".join(f"%{byte:02x}" for byte in wanted.encode())
    answer = door.ask("GET", path, cookie=known)
    assert (answer.status, answer.headers["location"]) == (303, goes)


def test_wrong_sign_ins_are_alike_and_soon_wait(door: Door) -> None:
    signed_in.person(door.database, door.home, "kim", Role.VIEWER)
    before = len(door.audited("sign_in.throttled"))
    took: dict[str, list[float]] = {"kim": [], "never-heard-of": []}
    for name, times in took.items():
        for _ in range(5):
            began_s = time.monotonic()
            answer = door.sign_in(name, "not this one either")
            times.append(time.monotonic() - began_s)
            assert answer.status == 401
            assert list(answer.json) == ["detail"]
        until(lambda name=name: door.sign_in(name, "not this one either").status == 429)  # type: ignore[misc]  # bound here
        answer = door.sign_in(name, signed_in.PASSWORD)
        assert answer.status == 429, "even the right password waits"
        assert int(answer.headers["retry-after"]) >= 1
    assert min(took["never-heard-of"]) > 0.3 * min(took["kim"]), "a name that there is not is told by its quick answer"
    told = door.audited("sign_in.throttled")[before:]
    assert [subject for _, subject, _ in told] == ["kim", "unknown name"]
    until(lambda: door.sign_in("kim", signed_in.PASSWORD).status == 204)


def test_one_time_password_is_changed_before_anything_else(door: Door) -> None:
    once = door.roster(lambda roster: roster.add("lena", Role.OPERATOR, "test"))
    cookie = door.sign_in("lena", once).cookie
    for path in ("/", "/defects", "/people"):
        answer = door.ask("GET", path, cookie=cookie)
        assert (answer.status, answer.headers["location"]) == (303, "/password")
    assert door.ask("GET", "/api/counts", cookie=cookie).status == 403
    assert door.ask("GET", "/events", cookie=cookie).status == 403
    for wanted in ("short", "lena likes the line", "aaaaaaaaaaaaaaaa", once, "x" * 200):
        answer = door.own("POST", "/api/password", {"present": once, "wanted": wanted}, cookie)
        assert answer.status == 422, wanted
    until(
        lambda: door.own("POST", "/api/password", {"present": once, "wanted": signed_in.PASSWORD}, cookie).status != 429
    )
    assert door.ask("GET", "/api/me", cookie=cookie).status == 401, "the session of the one-time password goes on"
    assert door.sign_in("lena", once).status == 401
    renewed = door.sign_in("lena", signed_in.PASSWORD).cookie
    assert door.ask("GET", "/api/counts", cookie=renewed).status == 200


def test_who_is_kept_out_or_lowered_is_so_at_once(door: Door) -> None:
    admin, mo = door.session("nora", Role.ADMIN), door.session("mo", Role.ENGINEER)
    token = signed_in.bearer(door.database, door.home, Role.OPERATOR)
    with socket.create_connection(("127.0.0.1", door.station.console.port), 15) as follows:
        follows.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {COOKIE}={mo}\r\n\r\n".encode())
        assert follows.recv(200).startswith(b"HTTP/1.1 200")
        assert door.own("PUT", "/api/people/mo", {"role": "VIEWER"}, admin).status == 200
        assert door.ask("GET", "/api/me", cookie=mo).json["role"] == "VIEWER"
        assert door.own("PUT", "/api/people/mo", {"disabled": True}, admin).status == 200
        assert door.ask("GET", "/api/me", cookie=mo).status == 401
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):  # the stream that was open ends, too
            received = received[-10:] + follows.recv(65536)
    assert door.sign_in("mo", signed_in.PASSWORD).status == 401
    assert door.ask("GET", "/api/me", **token).status == 200
    door.roster(lambda roster: roster.disable("program-operator", "test"))
    until(lambda: door.ask("GET", "/api/me", **token).status == 401)
    door.roster(lambda roster: roster.disable("program-operator", "test", disabled=False))
    assert ("nora", "mo", '{"disabled":true}') in door.audited("person.disabled")
    assert ("nora", "mo", '{"role":"VIEWER"}') in door.audited("person.role_changed")


def test_a_token_does_what_its_role_and_its_person_may(door: Door) -> None:
    admin = door.session("omar", Role.ADMIN)
    door.session("pia", Role.OPERATOR)
    asked = {"name": "pias-script", "person": "pia", "role": "ENGINEER", "days": 30}
    assert door.own("POST", "/api/tokens", asked, admin).status == 422, "more than the person may"
    made = door.own("POST", "/api/tokens", asked | {"role": "OPERATOR"}, admin)
    assert made.status == 201
    bearer = {"Authorization": f"Bearer {made.json['token']}"}
    assert made.json["token"] not in dump(door)
    me = door.ask("GET", "/api/me", **bearer).json
    assert (me["name"], me["role"], me["token"]) == ("pia", "OPERATOR", "pias-script")
    assert door.ask("GET", "/api/people", **bearer).status == 403
    assert door.ask("POST", "/api/sign-out", **bearer).status == 422
    assert door.own("PUT", "/api/people/pia", {"role": "VIEWER"}, admin).status == 200
    assert door.ask("GET", "/api/me", **bearer).json["role"] == "VIEWER"
    assert door.own("DELETE", "/api/tokens/pias-script", cookie=admin).status == 204
    assert door.ask("GET", "/api/me", **bearer).status == 401
    with signed_in.ledger(door.database, door.home) as ledger:
        ended = Tokens(ledger).add("short", "pia", Role.VIEWER, 1, "test")
        with ledger.changing() as change:
            change.connection.execute(
                text("UPDATE token SET ends_at = now() - interval '1 second' WHERE name = 'short'")
            )
    assert door.ask("GET", "/api/me", Authorization=f"Bearer {ended}").status == 401


def test_the_last_administrator_stays(door: Door) -> None:
    admin = door.session("quin", Role.ADMIN)
    others = [
        one
        for one in door.ask("GET", "/api/people", cookie=admin).json
        if one["role"] == "ADMIN" and one["name"] != "quin"
    ]
    for one in others:
        assert door.own("PUT", f"/api/people/{one['name']}", {"disabled": True}, admin).status == 200
    for change in ({"role": "ENGINEER"}, {"disabled": True}):
        answer = door.own("PUT", "/api/people/quin", change, admin)
        assert answer.status == 422
        assert "only administrator" in answer.json["detail"]
    for one in others:
        assert door.own("PUT", f"/api/people/{one['name']}", {"disabled": False}, admin).status == 200


def test_sessions_end_by_time(door: Door) -> None:
    for spent in ("seen_at = now() - interval '13 hours'", "ends_at = now() - interval '1 second'"):
        cookie = door.session("rosa", Role.VIEWER)
        with signed_in.ledger(door.database, door.home) as ledger, ledger.changing() as change:
            change.connection.execute(text(f"UPDATE session SET {spent} WHERE person = 'rosa'"))  # noqa: S608 - ours
        assert door.ask("GET", "/api/me", cookie=cookie).status == 401


def test_restart_and_a_database_that_is_away_keep_who_is_signed_in(door: Door) -> None:
    console, servers = door.station.console, door.station.servers
    signed_in.person(door.database, door.home, "sven", Role.VIEWER)
    cookie, stranger = door.session("sven", Role.VIEWER), secrets.token_urlsafe(32)
    port = console.port
    console.kill()
    console.start(port)
    assert door.ask("GET", "/api/me", cookie=cookie).json["name"] == "sven"
    servers.postgres.kill()
    assert door.ask("GET", "/", cookie=cookie).status == 200
    assert door.ask("GET", "/api/me", cookie=cookie).json["name"] == "sven"
    assert door.ask("GET", "/api/me", cookie=stranger).status == 503
    answer = door.sign_in("sven", signed_in.PASSWORD)
    assert answer.status == 503
    assert "nobody can sign in until the database is back" in answer.json["detail"]
    assert door.ask("GET", "/sign-in").status == 200
    servers.ready()
    until(lambda: door.sign_in("sven", signed_in.PASSWORD).status == 204, console.said)


def test_behind_tls_cookies_travel_by_tls_and_only_its_origin_changes_anything(door: Door) -> None:
    console, url = door.station.console, "https://andon.plant.example"
    signed_in.person(door.database, door.home, "tess", Role.VIEWER)
    plain = console.station
    section = plain.console.model_copy(update={"url": url})
    console.station = plain.model_copy(update={"console": section})
    console.kill()
    console.start(console.port)
    said = {"name": "tess", "password": signed_in.PASSWORD}
    assert door.own("POST", "/api/sign-in", said).status == 403, "the address behind the server is not its origin"
    proxied = {"Origin": url, "Host": "andon.plant.example", "X_Forwarded_For": "6.6.6.6, 10.1.2.3"}
    answer = door.ask("POST", "/api/sign-in", said, **proxied)
    assert answer.status == 204
    sent = answer.headers["set-cookie"]
    assert sent.startswith(f"__Host-{COOKIE}=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in sent.split(";")}
    assert "domain" not in sent.lower()
    assert door.audited("person.signed_in")[-1] == ("tess", "tess", '{"address":"10.1.2.3"}')
    assert door.ask("GET", "/api/me", Cookie=f"__Host-{COOKIE}={answer.cookie}").json["name"] == "tess"
    assert door.ask("GET", "/api/me", cookie=answer.cookie).status == 401
    console.station = plain
    console.kill()
    console.start(console.port)


def test_no_password_and_no_secret_is_in_the_log(door: Door) -> None:
    said = door.station.console.said()
    assert signed_in.PASSWORD not in said
    assert "Bearer" not in said
    assert "$argon2" not in said
