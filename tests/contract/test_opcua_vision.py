"""The station as an OPC UA server (OPC 40100-1), looked at by node-opcua."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import npm_packages
import pytest
import zmq
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError
from test_opcua import certify, free_port

from config import bus
from config.errors import ConfigurationError
from config.home import Home, Run
from config.messages import GateCommand, Judgement, Reason, Standing, Verdict, View
from config.station import Station
from decision.certificates import load
from decision.vision.callers import Callers
from decision.vision.states import TRANSITIONS, VisionState, path, state_of

ONLOOKER = Path(__file__).parent.parent / "opcua_onlooker.cjs"
EVENTS = {
    "state": {"id": 1018, "fields": ["FromState", "ToState", "Transition", "Message"]},
    "error": {"id": 1019, "fields": ["Message", "Severity"]},
    "resolved": {"id": 1020, "fields": ["Message"]},
    "recipe": {"id": 1022, "fields": ["InternalId", "ExternalId"]},
    "job": {"id": 1013, "fields": ["JobId"]},
    "result": {
        "id": 1024,
        "fields": [
            *(
                "ResultId",
                "PartId",
                "MeasId",
                "JobId",
                "IsPartial",
                "ResultState",
                "InternalRecipeId",
                "ExternalRecipeId",
            ),
            *("ProductId", "CreationTime", "ResultContent"),
        ],
    },
}


class Decision:
    """The decision stage's end of the bus: what it says comes from a test."""

    def __init__(self, home: Home) -> None:
        self._bus = bus.Bus()
        self._onlookers = self._bus.bind(zmq.PUB, home.endpoint("onlookers"))
        self._lock = threading.Lock()
        self._standing: Standing | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._repeat)
        self._thread.start()

    def stands(self, standing: Standing | None) -> None:
        """Say so ten times a second from now on; None: fall silent."""
        self._standing = standing

    def judged(self, verdict: Verdict) -> None:
        with self._lock:
            bus.send(self._onlookers, verdict)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._bus.close()

    def _repeat(self) -> None:
        while not self._closing.wait(0.1):
            with self._lock:
                if self._standing is not None:
                    bus.send(self._onlookers, self._standing)


class Onlooker:
    """A client by node-opcua."""

    def __init__(self, home: Home, *, secured: bool = False, name: str | None = None) -> None:
        """Connect; with a certificate of its own, or that of `name`, which lies in the home's folder."""
        folder = home.path
        url = f"opc.tcp://127.0.0.1:{home.read_station().opcua.port}"
        arguments = {"url": url, "system": "3:press", "events": EVENTS, "secured": secured}
        if name is not None:
            arguments |= {"certificate": str(folder / name), "applicationUri": f"urn:andon:test:{name}"}
        self._process = subprocess.Popen(
            [npm_packages.NODE, str(ONLOOKER), json.dumps(arguments)],
            env=npm_packages.environment("node-opcua"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "onlooker.log").open("w"),
            text=True,
        )
        self._answers: queue.Queue[object] = queue.Queue()
        self.events: queue.Queue[dict[str, object]] = queue.Queue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        assert self._answers.get(timeout=20) == "ready", (folder / "onlooker.log").read_text()

    def ask(self, **asked: object):  # type: ignore[no-untyped-def]  # whatever was asked for
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answers.get(timeout=10)

    def event(self, kind: str) -> dict[str, object]:
        """Return the next event of a kind; others that come before are passed over."""
        while (told := self.events.get(timeout=10))["event"] != kind:
            pass
        return told["fields"]

    def events_until(self, **wanted: dict[str, object]) -> list[dict[str, object]]:
        """Return all events until each kind that is wanted has come with its fields."""
        told = []
        while not all(
            any(one["event"] == kind and fields.items() <= one["fields"].items() for one in told)
            for kind, fields in wanted.items()
        ):
            told.append(self.events.get(timeout=10))
        return told

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for end in (self._process.stdin, self._process.stdout):
            end.close()

    def _listen(self) -> None:
        for line in self._process.stdout:
            if line == "ready\n":
                self._answers.put("ready")
                continue
            told = json.loads(line)
            if "event" in told:
                self.events.put(told)
            else:
                self._answers.put(told["answer"])
        self._answers.put("ended")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("vision"))


def make_home(folder: Path, plc_options: dict[str, object] | None = None, **opcua: object) -> Home:
    (folder / "bundle").touch()
    for product, job in {"bracket": 7, "cap": 9}.items():
        view = '[views.top]\nbundle = "bundle"\nreview_above = 1.0\nreject_above = 2.0\n'
        (folder / f"{product}.toml").write_text(f'product = "{product}"\njob = {job}\nversion = 3\n{view}')
    station = {
        "station": "press",
        "recipes": {name: str(folder / f"{name}.toml") for name in ("bracket", "cap")},
        "recipe": "bracket",
        "cameras": [{"name": "top", "type": "folder"}],
        "plc": {"type": "modbus", "options": plc_options or {}},
        "opcua": {"port": free_port()} | opcua,
    }
    found = Home(folder)
    found.make()
    found.write_station(Station.model_validate(station))
    return found


@contextlib.contextmanager
def served(home: Home) -> Iterator[None]:
    """The server's process."""
    command = [sys.executable, "-m", "decision.vision", "--home", str(home.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log: list[str] = []
    for line in process.stdout:
        log.append(line)
        if "ready" in line:
            break
    assert process.poll() is None, log
    try:
        yield
    finally:
        began = time.monotonic()
        process.terminate()
        left = process.stdout.read()
    assert process.wait(5) == 0, left
    assert time.monotonic() - began < 3
    assert "crashed" not in left, left


@pytest.fixture(scope="module")
def station(home: Home) -> Iterator[tuple[Decision, Onlooker]]:
    """The server with a decision stage that has said nothing yet, and a client of it."""
    npm_packages.environment("node-opcua")
    decision = Decision(home)
    with served(home):
        onlooker = Onlooker(home)
        yield decision, onlooker
        onlooker.close()
        decision.close()


def verdict(sequence: int, judgement: Judgement = Judgement.PASS) -> Verdict:
    reasons = {Judgement.REJECT: (Reason.ABOVE_THRESHOLD,), Judgement.FAULT: (Reason.LATE, Reason.OVERRUN)}
    score = None if judgement is Judgement.FAULT else 2.5
    return Verdict(
        part_id=f"press-1-{sequence}",
        sequence=sequence,
        station="press",
        line="1",
        recipe="bracket",
        recipe_version=3,
        recipe_digest="sha256:" + "ab" * 32,
        product="bracket",
        verdict=judgement,
        reasons=reasons.get(judgement, ()),
        views=(View(camera="top", verdict=judgement, score=score),),
        gate=GateCommand.PASS if judgement is Judgement.PASS else GateCommand.REJECT,
        trigger_ns=1_000_000_000,
        trigger_time_ns=1_700_000_000_000_000_000 + sequence * 1_000_000_000,
        deadline_ns=1_200_000_000,
        judged_ns=1_080_000_000,
    )


def test_it_is_a_vision_system_of_the_standard(station: tuple[Decision, Onlooker]) -> None:
    _, onlooker = station
    machine = "3:press/vision:VisionStateMachine"
    assert onlooker.ask(read=f"{machine}/CurrentState")["value"] == "Preoperational"
    assert onlooker.ask(read=f"{machine}/CurrentState/Id")["value"] == "ns=2;i=5028"
    automatic = onlooker.ask(read=f"{machine}/vision:AutomaticModeStateMachine/CurrentState")
    assert automatic["status"] == "BadStateNotActive"
    found = onlooker.ask(browse="3:press")
    assert sorted(found) == ["ConfigurationManagement", "RecipeManagement", "ResultManagement", "VisionStateMachine"]
    recipes = onlooker.ask(browse="3:press/vision:RecipeManagement/vision:Recipes")
    assert sorted(recipes) == ["bracket", "cap"]


def test_states_are_told_transition_by_transition(station: tuple[Decision, Onlooker]) -> None:
    decision, onlooker = station
    machine = "3:press/vision:VisionStateMachine"
    decision.stands(Standing(state="DEGRADED", detail="camera top is away", recipe="bracket"))
    prepared = onlooker.event("recipe")
    assert (prepared["InternalId"]["id"], prepared["InternalId"]["version"]) == ("bracket", "3")
    assert prepared["ExternalId"]["id"] == "7"
    decision.stands(Standing(state="READY", recipe="bracket"))
    names = [onlooker.event("state")["Transition"] for _ in range(3)]
    assert names == ["PreoperationalToInitializedAuto", "InitializedToReadyAuto", "ReadyToContinuousExecutionAuto"]
    assert onlooker.event("job")["JobId"]["id"] == "press-1"
    assert onlooker.ask(read=f"{machine}/CurrentState")["value"] == "Operational"
    automatic = onlooker.ask(read=f"{machine}/vision:AutomaticModeStateMachine/CurrentState")
    assert automatic == {"status": "Good", "value": "ContinuousExecution"}
    assert onlooker.ask(read="3:press/vision:RecipeManagement/vision:Recipes/3:bracket/vision:IsPrepared")["value"]
    decision.stands(Standing(state="DEGRADED", detail="camera top is away", recipe="bracket"))
    failed = onlooker.event("error")
    assert failed == {"Message": "camera top is away", "Severity": 700}
    assert onlooker.ask(read=f"{machine}/CurrentState")["value"] == "Error"
    decision.stands(Standing(state="READY", recipe="bracket"))
    assert onlooker.event("resolved")
    decision.stands(None)
    assert onlooker.event("error") == {"Message": "the decision stage is silent", "Severity": 700}


def test_results_are_told_and_can_be_asked_for(station: tuple[Decision, Onlooker]) -> None:
    decision, onlooker = station
    decision.stands(Standing(state="READY", recipe="bracket"))
    judgements = [Judgement.PASS, Judgement.REJECT, Judgement.FAULT]
    for sequence, judgement in enumerate(judgements):
        decision.judged(verdict(sequence, judgement))
    told = [onlooker.event("result") for _ in judgements]
    assert [one["PartId"]["id"] for one in told] == ["press-1-0", "press-1-1", "press-1-2"]
    assert [one["ResultState"] for one in told] == [1, 1, 4]
    assert [[part["value"] for part in one["ResultContent"]] for one in told] == [
        ["PASS", "PASS", "", 2.5, [0, 0]],
        ["REJECT", "REJECT", "ABOVE_THRESHOLD", 2.5, [0, 1]],
        ["FAULT", "REJECT", "LATE OVERRUN", "NaN", [0, 2]],
    ]
    first = told[0]
    assert first["ResultId"]["id"] == "press-1-0"
    assert first["IsPartial"] is False
    assert first["ExternalRecipeId"]["id"] == "7"
    recipe = first["InternalRecipeId"]
    assert (recipe["id"], recipe["version"], recipe["hashAlgorithm"]) == ("bracket", "3", "SHA-256")
    assert first["ProductId"]["id"] == "bracket"
    assert first["CreationTime"] == "2023-11-14T22:13:20.080Z"
    management = "3:press/vision:ResultManagement"
    by_id = [{"structure": 3021, "value": {"id": "press-1-1"}}, {"type": "Int32", "value": 0}]
    found = onlooker.ask(call=[management, "vision:GetResultById"], arguments=by_id)
    assert found["status"] == "Good", found
    assert found["values"][1]["partId"]["id"] == "press-1-1"
    assert found["values"][2] == 0
    by_id[0]["value"] = {"id": "press-1-77"}
    assert onlooker.ask(call=[management, "vision:GetResultById"], arguments=by_id)["values"][2] == -1
    by_id[0]["value"] = {"id": "press-1-2"}
    components = onlooker.ask(call=[management, "vision:GetResultComponentsById"], arguments=by_id)["values"]
    assert (len(components), components[4], components[-1]) == (17, 4, 0)
    assert listed(onlooker, 0, 0, 0) == (True, ["press-1-2", "press-1-1", "press-1-0"])
    assert listed(onlooker, 1, 1, 0) == (False, ["press-1-1"])
    assert listed(onlooker, 1, 1, 1) == (True, ["press-1-0"])
    assert listed(onlooker, 0, 0, 0, part="press-1-1") == (True, ["press-1-1"])
    assert listed(onlooker, 4, 0, 0, part="press-1-1") == (True, [])


def listed(onlooker: Onlooker, state: int, most: int, start: int, part: str = "") -> tuple[bool, list[str]]:
    ids = {"MeasId": 3015, "PartId": 3004, "ExternalRecipeId": 3002, "InternalRecipeId": 3013}
    ids |= {"ExternalConfigurationId": 3008, "InternalConfigurationId": 3008, "ProductId": 3003, "JobId": 3016}
    arguments = [
        {"type": "Int32", "value": state},
        *({"structure": kind, "value": {"id": part if name == "PartId" else ""}} for name, kind in ids.items()),
        *({"type": "UInt32", "value": number} for number in (most, start)),
        {"type": "Int32", "value": 0},
    ]
    found = onlooker.ask(call=["3:press/vision:ResultManagement", "vision:GetResultListFiltered"], arguments=arguments)
    assert found["status"] == "Good", found
    complete, count, _handle, results, error = found["values"]
    assert (count, error) == (len(results), 0)
    return complete, [one["partId"]["id"] for one in results]


def test_recipes_are_listed_and_a_changeover_is_told(station: tuple[Decision, Onlooker]) -> None:
    decision, onlooker = station
    decision.stands(Standing(state="READY", recipe="cap"))
    assert onlooker.event("recipe")["InternalId"]["id"] == "cap"
    management = "3:press/vision:RecipeManagement"

    def recipes(external: str, prepared: int) -> list[str]:
        arguments = [
            {"structure": 3002, "value": {"id": external}},
            {"structure": 3003, "value": {"id": ""}},
            {"type": "Int32", "value": prepared},
            *({"type": "UInt32", "value": 0} for _ in range(2)),
            {"type": "Int32", "value": 0},
        ]
        found = onlooker.ask(call=[management, "vision:GetRecipeListFiltered"], arguments=arguments)
        assert found["status"] == "Good", found
        return [one["id"] for one in found["values"][3]]

    assert recipes("", 2) == ["bracket", "cap"]
    assert recipes("", 1) == ["cap"]
    assert recipes("", 0) == ["bracket"]
    assert recipes("7", 2) == ["bracket"]


def test_a_version_that_comes_into_force_is_shown_and_told(home: Home, station: tuple[Decision, Onlooker]) -> None:
    decision, onlooker = station
    decision.stands(Standing(state="READY", recipe="cap"))
    running, versions = home.read_station(), home.versions()
    home.write_run(Run(run_id="1"))
    in_force = versions.begin("1", running)
    newer = in_force["cap"].model_copy(update={"version": 4})
    versions.take("cap", versions.copy(newer))
    node = "3:press/vision:RecipeManagement/vision:Recipes/3:cap"
    while (prepared := onlooker.event("recipe"))["InternalId"]["version"] != "4":
        pass
    assert prepared["InternalId"]["id"] == "cap"
    assert onlooker.ask(read=f"{node}/vision:InternalId")["value"]["version"] == "4"
    assert onlooker.ask(read=f"{node}/vision:IsPrepared")["value"] is True


def test_who_is_no_controller_can_change_nothing(station: tuple[Decision, Onlooker]) -> None:
    _, onlooker = station
    machine = "3:press/vision:VisionStateMachine"
    stop = [{"type": "Int32", "value": 0}, {"type": "String", "value": "test"}]
    for where, method in (
        (machine, "Halt"),
        (machine, "Reset"),
        (f"{machine}/vision:AutomaticModeStateMachine", "Stop"),
    ):
        assert onlooker.ask(call=[where, f"vision:{method}"], arguments=stop)["status"] == "BadUserAccessDenied"
    written = onlooker.ask(write=f"{machine}/CurrentState", value="Halted")
    assert written["status"] in ("BadNotWritable", "BadUserAccessDenied")


def test_with_a_certificate_every_message_is_signed_and_encrypted_and_a_stranger_may_look(tmp_path: Path) -> None:
    npm_packages.environment("node-opcua")
    for name in ("press", "cell"):
        certify(tmp_path, name)
    own = {"certificate": str(tmp_path / "press.pem"), "private_key": str(tmp_path / "press.key")}
    home = make_home(tmp_path, controllers={"cell": str(tmp_path / "cell.pem")}, **own)
    with served(home):
        onlooker = Onlooker(home, secured=True)
        caused = [{"type": "Int32", "value": 0}, {"type": "String", "value": ""}]
        halted = onlooker.ask(call=["3:press/vision:VisionStateMachine", "vision:Halt"], arguments=caused)
        assert halted["status"] == "BadUserAccessDenied"
        assert onlooker.ask(read="3:press/vision:VisionStateMachine/CurrentState")["value"] == "Preoperational"
        onlooker.close()
        with pytest.raises(AssertionError, match="ended"):
            Onlooker(home)


def test_a_controller_has_a_name_while_its_certificate_is_valid(tmp_path: Path) -> None:
    names = {"cell": 1, "former": -1, "stranger": 1}
    for name, days in names.items():
        certify(tmp_path, name, days=days)
    callers = Callers({name: tmp_path / f"{name}.pem" for name in ("cell", "former")})

    def named(name: str) -> str | None:
        certificate = load((tmp_path / f"{name}.pem").read_bytes())
        return callers.get_user(None, certificate=certificate.public_bytes(Encoding.DER)).name

    assert [named(name) for name in names] == ["cell", None, None]
    assert callers.get_user(None, username="cell", password="").name is None
    with pytest.raises(ConfigurationError, match=r"controllers.cell: .*cell.key: no certificate"):
        Callers({"cell": tmp_path / "cell.key"})


def test_controllers_need_a_certificate_of_the_station(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="the station needs certificate and private_key"):
        make_home(tmp_path, controllers={"cell": str(tmp_path / "cell.pem")})


def test_every_state_is_reached_from_every_other_and_never_but_by_the_standard_s_transitions() -> None:
    names = {(one.source, one.target) for one in TRANSITIONS}
    known = {one.source for one in TRANSITIONS}
    for source in known:
        for target in known:
            way = path(source, target)
            assert bool(way) is (source is not target)
            assert all((one.source, one.target) in names for one in way)
            ends = [source, *(one.target for one in way)]
            assert [one.source for one in way] == ends[:-1]
            assert ends[-1] is target


@pytest.mark.parametrize(
    ("standing", "heard", "been", "state"),
    [
        (None, False, False, VisionState.PREOPERATIONAL),
        (None, False, True, VisionState.ERROR),
        (Standing(state="DEGRADED", recipe="a"), True, False, VisionState.PREOPERATIONAL),
        (Standing(state="DEGRADED", recipe="a"), True, True, VisionState.ERROR),
        (Standing(state="DEGRADED", recipe=None), True, True, VisionState.INITIALIZED),
        (Standing(state="READY", recipe="a"), True, False, VisionState.CONTINUOUS_EXECUTION),
        (Standing(state="READY", recipe="a"), False, True, VisionState.ERROR),
        (Standing(state="STOPPING", recipe="a"), False, True, VisionState.HALTED),
    ],
)
def test_what_the_decision_stage_says_means_a_state(
    standing: Standing | None,
    heard: bool,  # noqa: FBT001 - a table's column
    been: bool,  # noqa: FBT001 - as above
    state: VisionState,
) -> None:
    assert state_of(standing, heard=heard, been_operational=been) is state


def test_a_port_that_is_taken_is_a_configuration_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        home = make_home(tmp_path, port=port)
        command = [sys.executable, "-m", "decision.vision", "--home", str(home.path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 78, ended.stdout + ended.stderr
    assert f"127.0.0.1:{port}: cannot listen" in ended.stdout + ended.stderr
