"""The API keeps its word: every operation of `/api/openapi.json`, asked with what its schema allows and forbids.

Schemathesis makes the requests. No answer may be a 5xx but a documented 503, and each has a status, a content type and
a body that its operation's description says. All of it happens to a station, a home and a database of this file's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
import signed_in
from console_process import CAMERAS, DIGEST, Inspected, inspected
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from live_servers import Servers
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi import checks
from storage_process import until

from config.messages import Judgement
from storage.people import Role

Asking = Case[Any]
Operation = APIOperation[Any, Any, Any, Any]
CHECKS: list[CheckFunction] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
OWN = {  # what would end the asking itself, by name
    ("PUT", "/api/people/{name}"): "a person disabled has tokens that are worth nothing",
    ("POST", "/api/people/{name}/password"): "a one-time password ends what the person may do until it is changed",
    ("DELETE", "/api/tokens/{name}"): "a token revoked opens nothing",
}
WAITS = {"/api/recipes/active"}  # 3 s for the answer of a line that does not run here
EXAMPLES = 100  # of each operation, of each mode
NASTY = (  # as JSON has them
    r'"\u0000"',
    r'"a\u0000b"',
    r'"\ud800"',
    r'"\u202e\ufeff"',
    '"0001-01-01T00:00:00+14:00"',
    '"9999-12-31T23:59:59-14:00"',
    '"%s"' % ("9" * 119),
    "9" * 30,
    "-1",
    "1e400",
    "NaN",
    "[" * 500 + "]" * 500,
    '{"a":' * 500 + "1" + "}" * 500,
)
FAR = [value for value in NASTY if "T23" in value or "T00" in value]
STREAMS = {"/events", "/api/lessons/{lesson_id}/events"}  # have no end: their beginning is looked at


class Asked:
    """A console that is asked by programs of every role, and what there is at its station."""

    def __init__(self, station: Inspected, part_id: str) -> None:
        self.url = station.console.url
        database, home = station.console.database, station.console.home.path
        self._credentials = {role: signed_in.bearer(database, home, role) for role in Role}
        self._own = {f"program-{role.value.lower()}" for role in Role}
        signed_in.person(database, home, "somebody", Role.VIEWER)
        self.session = requests.Session()
        tokens = self.session.get(f"{self.url}/api/tokens", headers=self._credentials[Role.ADMIN], timeout=20).json()
        self._own |= {token["name"] for token in tokens}
        self.schema: BaseSchema = schemathesis.openapi.from_url(
            f"{self.url}/api/openapi.json", headers=self._credentials[Role.VIEWER]
        )
        digest = self._get("/api/recipes/bracket")["digest"]
        wanted = {"recipe": "bracket", "camera": "top"}
        made = self.session.post(
            f"{self.url}/api/lessons", json=wanted, headers=self._credentials[Role.ADMIN], timeout=20
        )
        assert made.status_code == 201, made.text
        self.known: dict[str, list[Any]] = {
            "part_id": [part_id],
            "camera": list(CAMERAS),
            "region": [0],
            "digest": [DIGEST, digest],
            "based_on": [digest],
            "before": [digest],
            "after": [digest],
            "lesson_id": [made.json()["id"]],
            "recipe": ["bracket", "board"],
            "product": ["bracket", "board"],
            "person": ["somebody"],
            "number": [1],
        }

    def operations(self) -> Iterator[Operation]:
        """Yield every operation of the API."""
        for found in self.schema.get_all_operations():
            assert isinstance(found, Ok), found
            yield found.ok()

    def fields(self, schema: dict[str, Any]) -> list[str]:
        """Return the names of the fields of a body."""
        found: dict[str, Any] = self.schema.raw_schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return list(found["properties"])

    def names(self, path: str) -> list[str]:
        """Return names that there are, of what a path's `{name}` is."""
        return ["somebody"] if path.startswith(("/api/people", "/api/tokens")) else ["bracket"]

    def ask(self, case: Asking, role: Role) -> None:
        """Ask, and raise where the answer is none that the operation's description allows."""
        path = case.operation.path
        if (case.method.upper(), path) in OWN and quote(str(case.path_parameters["name"])) in self._own:
            return
        credentials = self._credentials[role]
        if path in STREAMS:
            self._begin(case, credentials)
            return
        response = case.call(base_url=self.url, headers=credentials, session=self.session, timeout=60)
        documented = case.operation.definition.raw["responses"]
        allowed = response.status_code < 500 or (response.status_code == 503 and "503" in documented)
        assert allowed, f"{response.status_code}: {response.content[:300]!r}"
        case.validate_response(response, checks=CHECKS)

    def send(self, method: str, path: str, sent: dict[str, Any]) -> requests.Response:
        """Send `params` or a body of JSON (`data`) as an administrator, to a path of what there is."""
        names = self.known | {"name": self.names(path), "number": [1], "purpose": ["image"], "which": ["fit"]}
        filled = "/".join(
            str(names.get(step[1:-1], ["check"])[0]) if step.startswith("{") else step for step in path.split("/")
        )
        headers = self._credentials[Role.ADMIN] | ({"Content-Type": "application/json"} if "data" in sent else {})
        return self.session.request(method, f"{self.url}{filled}", headers=headers, timeout=60, **sent)

    def _begin(self, case: Asking, credentials: dict[str, str]) -> None:
        asked = case.as_transport_kwargs(base_url=self.url, headers=credentials)
        with self.session.request(**asked, stream=True, timeout=20) as answer:
            documented = case.operation.definition.raw["responses"]
            assert str(answer.status_code) in documented
            kind = "text/event-stream" if answer.status_code == 200 else "application/json"
            assert answer.headers["Content-Type"].partition(";")[0] == kind

    def _get(self, path: str) -> Any:
        return self.session.get(f"{self.url}{path}", headers=self._credentials[Role.ADMIN], timeout=20).json()


@pytest.fixture(scope="module")
def asked(running_servers: Servers) -> Iterator[Asked]:
    running_servers.ready()
    with inspected(running_servers) as made, made.beating():
        part_id = made.line.part(Judgement.REJECT)
        made.line.part(Judgement.PASS)
        until(lambda: made.console.json("/api/counts")["total"] == 2, made.console.said)
        yield Asked(made, part_id)


def _with_known(asked: Asked, operation: Operation, mode: GenerationMode) -> st.SearchStrategy[Asking]:
    """Return requests of which two of three name what there is, so that they come further than to a 404."""

    def name(case: Asking, choice: int) -> Asking:
        known = asked.known | {"name": asked.names(operation.path)}
        places = [case.path_parameters] + ([case.query, case.body] if mode is GenerationMode.POSITIVE else [])
        for place in places if choice else ():
            for key in set(place) & set(known) if isinstance(place, dict) else ():
                place[key] = known[key][choice % len(known[key])]
        return case

    return st.builds(name, operation.as_strategy(generation_mode=mode), st.integers(0, 2))


def _some(name: str, *, every: bool) -> Sequence[str]:
    """Return the values that a field gets: times that are far off where it is one, else one that is chosen by name."""
    if every:
        return NASTY
    return FAR if name.endswith(("since", "until")) else [NASTY[sum(name.encode()) % len(NASTY)]]


def _nasty(asked: Asked, described: dict[str, Any], *, every: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a nasty value stands, and what is sent."""
    for one in described.get("parameters", ()):
        if one["in"] == "query":
            for value in _some(one["name"], every=every):
                text = json.loads(value) if value.startswith('"') else value
                yield f"{one['name']}={value:.30}", {"params": {one["name"]: text.encode("utf-8", "surrogatepass")}}
    content = described.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return
    fields = asked.fields(content["schema"])
    plain = {name: json.dumps((asked.known | {"name": ["new"]}).get(name, ["VIEWER"])[0]) for name in fields}
    for field in fields:
        for value in _some(field, every=every):
            said = plain | {field: value}
            yield f"{field}: {value:.30}", {"data": "{" + ",".join(f'"{key}":{said[key]}' for key in said) + "}"}
    for value in NASTY if every else NASTY[-1:]:
        yield "", {"data": value}


def _try_all(asked: Asked, role: Role, examples: int, methods: set[str] | None = None) -> None:
    """Ask every operation in `role`; tell of all that do not keep their word, not of the first alone."""
    faults: list[str] = []
    tried = 0
    for operation in asked.operations():
        if methods is not None and operation.method.upper() not in methods:
            continue
        for mode in GenerationMode:

            @settings(
                max_examples=1 if operation.path in WAITS else examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=_with_known(asked, operation, mode))
            def holds(case: Asking) -> None:
                nonlocal tried
                tried += 1
                asked.ask(case, role)

            try:
                holds()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, operation.label  # nothing that is said to it can be wrong
            except (AssertionError, FailureGroup) as error:
                faults.append(f"{operation.label}: {error!r:.2000}")
    assert not faults, "\n\n".join(faults)
    assert tried > 60


def test_answers_are_as_described(asked: Asked) -> None:
    _try_all(asked, Role.ADMIN, examples=1)


def test_answers_to_viewers_are_as_described(asked: Asked) -> None:
    _try_all(asked, Role.VIEWER, examples=1, methods={"POST", "PUT", "DELETE"})


def _break(asked: Asked, *, every: bool) -> None:
    """Put each of `NASTY`, or some of them, wherever a value may stand, one at a time."""
    faults = []
    for operation in asked.operations():
        if operation.path in STREAMS | WAITS:
            continue
        for where, sent in _nasty(asked, operation.definition.raw, every=every):
            answer = asked.send(operation.method.upper(), operation.path, sent)
            if answer.status_code >= 500:
                faults.append(f"{operation.label} {where}: {answer.status_code} {answer.text[:200]}")
    assert not faults, "\n".join(faults)


def test_values_that_no_schema_forbids_break_nothing(asked: Asked) -> None:
    _break(asked, every=False)


@pytest.mark.slow
def test_no_value_anywhere_breaks_anything(asked: Asked) -> None:
    _break(asked, every=True)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("role", [Role.ADMIN, Role.VIEWER])
def test_answers_to_much_asking_are_as_described(asked: Asked, role: Role) -> None:
    _try_all(asked, role, examples=EXAMPLES)
