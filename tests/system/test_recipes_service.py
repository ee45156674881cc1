"""From a draft to a version in force and back, by the API: a real console and a real decision process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from leading_plc import LeadingPlc
from live_servers import Servers
from sqlalchemy import create_engine, text
from test_changeover import Line, changes, content

from storage.ledger import Ledger
from storage.library import Library
from storage.people import Role
from storage.roster import Roster
from storage.tokens import Tokens

NAME = "/api/recipes/cap"


class Desk:
    """The line's console, and people with tokens of their own at it."""

    def __init__(self, line: Line, servers: Servers) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.line = line
        self.database = servers.database()
        self._environment = {**os.environ, "ANDON_DATABASE_URL": self.database, "ANDON_REDIS_URL": servers.valkey.url}
        self._headers: dict[str, dict[str, str]] = {}
        library = Library(self.database, line.home.path)
        library.register("decision", line.home.read_recipes(), {})  # as the supervisor does
        self.begin(four_eyes=False)

    def begin(self, *, four_eyes: bool) -> None:
        running = self.line.home.read_station()
        section = running.console.model_copy(update={"port": self.port, "four_eyes": four_eyes})
        self.line.home.write_station(running.model_copy(update={"console": section}))
        command = [sys.executable, "-m", "deploy.console", "--home", str(self.line.home.path)]
        self._process = subprocess.Popen(command, env=self._environment, stderr=self.line.log)
        self.line.wait(lambda: self.ask("GET", "/api/recipes", by="Ada")[0] == 200, within_s=30)

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)

    def employ(self, name: str, role: Role) -> None:
        """Give a person a token."""
        ledger = Ledger(self.database, self.line.home.path, "test")
        Roster(ledger).add(name, role, "test")
        secret = Tokens(ledger).add(f"of-{name}", name, role, None, "test")
        ledger.close()
        self._headers[name] = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None, *, by: str = "Ada") -> tuple[int, Any]:
        if by not in self._headers:
            self.employ(by, Role.VIEWER if by == "Vi" else Role.ENGINEER)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            try:
                connection.request(method, path, None if body is None else json.dumps(body), self._headers[by])
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except ConnectionRefusedError:
                return 0, None

    def get(self, path: str) -> Any:
        status, said = self.ask("GET", path)
        assert status == 200, said
        return said

    def propose(self, reject_above: float, by: str = "Ada", **more: object) -> tuple[int, Any]:
        now = self.get(NAME)
        now["content"]["views"]["front"] |= {"reject_above": reject_above, **more}
        said = {"recipe": "cap", "based_on": now["digest"], "content": now["content"], "comment": "why"}
        return self.ask("POST", "/api/proposals", said, by=by)

    def decide(self, number: int, verb: str, by: str = "Ada", body: object = None) -> tuple[int, Any]:
        return self.ask("POST", f"/api/proposals/{number}/{verb}", body, by=by)

    def audited(self) -> list[tuple[str, str, Any, Any]]:
        engine = create_engine(self.database)
        with engine.connect() as connection:
            wanted = (
                "SELECT who, action, before, after FROM audit WHERE action ~ '^(proposal|recipe)[.]' ORDER BY number"
            )
            rows = connection.execute(text(wanted)).all()
        engine.dispose()
        return [
            (who, action, json.loads(before or "null"), json.loads(after or "null"))
            for who, action, before, after in rows
        ]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, running_servers: Servers) -> Iterator[Desk]:
    running_servers.ready()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    plc = LeadingPlc(port, 0)
    plc.start()
    line = Line(tmp_path_factory.mktemp("desk"), port)
    made = None
    try:
        line.wait(lambda: line.verdicts, within_s=30)
        made = Desk(line, running_servers)
        yield made
    finally:
        if made is not None:
            made.end()
        line.stop()
        plc.stop()


def test_proposed_approved_activated_and_rolled_back(desk: Desk) -> None:
    line = desk.line
    first = desk.get(NAME)
    assert (first["version"], first["content"]["views"]["front"]["reject_above"]) == (1, 2.0)
    assert line.last.verdict == "REJECT"
    status, made = desk.propose(4.0, by="Bo")
    assert (status, made["state"], made["person"], made["based_on"]) == (201, "PROPOSED", "bo", first["digest"])
    number = made["number"]
    whole = desk.get(f"/api/proposals/{number}")
    assert whole["changes"] == [{"field": "views.front.reject_above", "before": 2.0, "after": 4.0}]
    status, said = desk.decide(number, "activate")
    assert (status, said["detail"]) == (409, f"proposal {number} is PROPOSED: to be ACTIVATED it must be APPROVED")
    status, said = desk.decide(number, "approve", by="Ada")
    assert (status, said["state"], said["decided_by"]) == (200, "APPROVED", "ada")
    assert line.last.recipe_version == 1
    status, now = desk.decide(number, "activate", by="Ada")
    assert (status, now["version"]) == (200, 2)
    line.wait_version(2)
    assert (line.last.verdict, line.last.recipe_digest) == ("REVIEW", now["digest"])
    line.wait(lambda: any("by ada" in one.detail for one in line.named("recipe_version")))
    assert next(one["version"] for one in desk.get(f"{NAME}/versions")["versions"]) == 2

    back = {"digest": first["digest"], "based_on": now["digest"], "comment": "no"}
    assert desk.ask("POST", f"{NAME}/roll-back", {**back, "digest": now["digest"]})[0] == 422
    line.kill()
    line.begin()  # what was put in force outlives the process
    line.wait(lambda: desk.ask("GET", "/api/recipes")[1]["recipes"][0]["digest"] == now["digest"])
    line.wait(lambda: desk.ask("POST", f"{NAME}/roll-back", back, by="Bo")[0] != 503, within_s=30)
    assert desk.get(NAME)["digest"] == first["digest"]
    line.wait_version(1)
    entered = [(who, action) for who, action, *_ in desk.audited() if action != "recipe.registered"]
    assert entered[-4:] == [
        ("bo (token of-Bo)", "proposal.made"),
        ("ada (token of-Ada)", "proposal.approved"),
        ("ada (token of-Ada)", "proposal.activated"),
        ("bo (token of-Bo)", "recipe.rolled_back"),
    ]
    activated = next(one for one in desk.audited() if one[1] == "proposal.activated")
    assert activated[2] == {"views.front.reject_above": 2.0}
    assert activated[3]["views.front.reject_above"] == 4.0


def test_what_another_was_quicker_with_is_told(desk: Desk) -> None:
    """Two people base a change on the same version; the second is shown what the first has changed."""
    numbers = [desk.propose(value, by=by)[1]["number"] for value, by in ((5.0, "Ada"), (6.0, "Bo"))]
    for number in numbers:
        assert desk.decide(number, "approve")[0] == 200
    version = desk.decide(numbers[0], "activate")[1]["version"]
    desk.line.wait_version(version)
    status, said = desk.decide(numbers[1], "activate", by="Bo")
    assert status == 409
    assert said["changes"] == [{"field": "views.front.reject_above", "before": 2.0, "after": 5.0}]
    assert said["in_force"] == desk.get(NAME)["digest"]
    status, said = desk.decide(numbers[1], "reject", by="Bo", body={"comment": "too late"})
    assert (status, said["state"]) == (200, "REJECTED")
    assert desk.decide(numbers[1], "approve")[0] == 409
    assert desk.line.last.recipe_version == version


def test_faults_are_told_at_their_fields_and_nothing_is_kept(desk: Desk) -> None:
    before = desk.get(f"{NAME}/proposals")
    zone = {"name": "z", "polygon_px": [[1, 1], [5, 1], [5, 5]], "review_above": 9.0}
    cases: list[tuple[dict[str, object], str, str]] = [
        ({"reject_above": "much"}, "views.front.reject_above", "valid number"),
        ({"reject_above": 0.5}, "views.front", "review_above 1.0 must not exceed reject_above 0.5"),
        ({"zones": [zone]}, "views.front", "zone 'z': review_above 9.0 must not exceed"),
        ({"zones": [{**zone, "polygon_px": [[1, 1]]}]}, "views.front.zones.0.polygon_px", "at least 3"),
        ({"roi": "no picture!"}, "views.front.roi", "path"),
        ({"roi": "AAAA"}, "views", "not a readable picture"),
        ({"color": 1}, "views.front.color", "unknown field"),
        ({"bundle_digest": "sha256:" + "0" * 64}, "views.front.bundle_digest", "stop and start the station"),
    ]
    for more, field, problem in cases:
        status, said = desk.propose(2.5, **more) if "reject_above" not in more else desk.propose(**more)  # type: ignore[arg-type]  # what is wrong is the test
        assert status == 422, (more, said)
        assert said["faults"][0]["field"] == field, said
        assert problem in said["faults"][0]["problem"], said
        assert str(desk.line.home.path) not in json.dumps(said)
    now = desk.get(NAME)
    status, said = desk.ask(
        "POST", "/api/proposals", {"recipe": "cap", "based_on": now["digest"], "content": now["content"]}
    )
    assert (status, said["detail"]) == (422, "nothing is changed: there is nothing to propose")
    for content_ in ({}, {"views": 3}, {"views": {"front": 7}}, {**now["content"], "product": "lid"}):
        said = {"recipe": "cap", "based_on": now["digest"], "content": content_}
        assert desk.ask("POST", "/api/proposals", said)[0] == 422, content_
        assert desk.ask("POST", f"{NAME}/what-if", {"content": content_})[0] == 422, content_
    assert desk.get(f"{NAME}/proposals") == before
    assert desk.ask("GET", "/api/recipes/none")[0] == 404
    assert desk.decide(999, "approve")[0] == 404


def test_who_may_look_may_not_change(desk: Desk) -> None:
    assert desk.ask("GET", NAME, by="Vi")[0] == 200
    now = desk.get(NAME)
    assert desk.ask("POST", f"{NAME}/what-if", {"content": now["content"]}, by="Vi")[0] == 200
    assert desk.propose(3.3, by="Vi")[0] == 403
    number = desk.propose(3.3)[1]["number"]
    for verb in ("approve", "activate", "reject"):
        assert desk.decide(number, verb, by="Vi", body={})[0] == 403
    back = {"digest": now["digest"], "based_on": now["digest"]}
    assert desk.ask("POST", f"{NAME}/roll-back", back, by="Vi")[0] == 403


def test_four_eyes_and_a_file_that_is_edited_counts_again(desk: Desk) -> None:
    line = desk.line
    desk.end()
    desk.begin(four_eyes=True)
    number = desk.propose(3.5, by="Ada")[1]["number"]
    status, said = desk.decide(number, "approve", by="Ada")
    assert (status, "somebody else has to approve it" in said["detail"]) == (422, True)
    assert desk.decide(number, "approve", by="Bo")[0] == 200
    version = desk.decide(number, "activate", by="Ada")[1]["version"]
    line.wait_version(version)
    line.file.write_text(content(version, reject_above=9.0))
    line.wait(lambda: line.named("recipe_refused"))  # its number is taken
    status, said = desk.ask(
        "POST",
        "/api/proposals",
        {"recipe": "cap", "based_on": desk.get(NAME)["digest"], "content": desk.get(NAME)["content"]},
    )
    assert status == 422
    line.file.write_text(content(version + 1, reject_above=9.0))
    line.wait_version(version + 1)
    assert desk.get(NAME)["content"]["views"]["front"]["reject_above"] == 9.0
    judged = [line.verdicts[number] for number in sorted(line.verdicts)]
    assert [one for one in changes(judged) if one[1] == version + 1] == [("cap", version + 1)], "from one part on"
