"""A station controlled over OPC UA (OPC 40100-1): the real processes of decision and server, node-opcua as the client.

Cameras, a worker and storage are played on the bus; the PLC is libmodbus.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import npm_packages
import numpy as np
import pytest
import zmq
from plc_peers import Libmodbus
from test_opcua import certify
from test_opcua_vision import Onlooker, make_home, served

from config import bus
from config.home import Home, Run
from config.messages import (
    Enlist,
    Event,
    Judgement,
    Prediction,
    Predictions,
    Reason,
    Recorded,
    Trigger,
    Verdict,
)
from decision import registers

MACHINE = "3:press/vision:VisionStateMachine"
AUTOMATIC = f"{MACHINE}/vision:AutomaticModeStateMachine"
RECIPES = "3:press/vision:RecipeManagement"
REGISTERS = {register.name: register for register in registers.TABLE}
WITHIN_S = 5.0
IDENTITY = {"certificate": "cell.pem", "private-key": "cell.key", "server-certificate": "press.pem"}


class Line:
    """One camera, its worker, storage and the PLC's program."""

    def __init__(self, home: Home, plc: Libmodbus) -> None:
        self.events: list[Event] = []
        self.verdicts: dict[int, Verdict] = {}
        self._plc = plc
        self._bus = bus.Bus()
        self._camera = self._bus.connect(zmq.DEALER, home.endpoint("triggers"), "top")
        self._predictions = self._bus.connect(zmq.PUSH, home.endpoint("predictions"))
        self._records = self._bus.bind(zmq.ROUTER, home.endpoint("records"))
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def trigger(self, sequence: int, *, score: float | None = 0.5, recipe: str = "bracket") -> None:
        """Let a part come, and its score; None: no score."""
        part_id, now_ns = f"press-r1-{sequence:08d}", time.monotonic_ns()
        trigger = Trigger(
            part_id=part_id,
            sequence=sequence,
            station="press",
            camera="top",
            views=("top",),
            recipe=recipe,
            trigger_ns=now_ns,
            trigger_time_ns=time.time_ns(),
            deadline_ns=now_ns + 3_000_000_000,
        )
        with self._lock:
            bus.send(self._camera, trigger)
            if score is not None:
                predictions = Predictions(each=(prediction(part_id, score),))
                bus.send(self._predictions, predictions, [np.full((4, 4), score, np.float32).tobytes()])

    def verdict(self, sequence: int) -> Verdict:
        wait(lambda: sequence in self.verdicts)
        return self.verdicts[sequence]

    def told(self, detail: str) -> Event:
        """Return the event in storage that tells so."""
        wait(lambda: any(event.detail == detail for event in self.events))
        return next(event for event in self.events if event.detail == detail)

    def plc(self, name: str) -> int:
        return self._plc.read(REGISTERS[name])[0]

    def ask_for_job(self, job: int) -> None:
        self._plc.write(REGISTERS["requested_job"], [job])

    def heart_beats(self) -> bool:
        """Tell whether the station's heartbeat changes within 0.5 s, a moment after what came before."""
        time.sleep(0.15)
        before, ends_s = self.plc("station_heartbeat"), time.monotonic() + 0.5
        while time.monotonic() < ends_s:
            if self.plc("station_heartbeat") != before:
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._bus.close()

    def _run(self) -> None:
        beat = 0
        while not self._closing.wait(0.01):
            with self._lock:
                beat += 1
                self._plc.write(REGISTERS["plc_heartbeat"], [beat // 5 % 65536])
                if beat % 20 == 1:
                    bus.send(self._camera, Enlist(camera="top", workers=1))
                bus.Receiver(self._records, self._record, {})()
                bus.Receiver(self._camera, lambda *_: None, {})()

    def _record(self, message: object, _payload: list[bytes], peer: bytes) -> None:
        if isinstance(message, Event):
            self.events.append(message)
        elif isinstance(message, Verdict):
            self.verdicts[message.sequence] = message
        bus.send(self._records, Recorded(record_ids=(message.record_id,), journalled_ns=1), to=peer)


def prediction(part_id: str, score: float) -> Prediction:
    return Prediction(
        frame_id=f"{part_id}-top",
        part_id=part_id,
        camera="top",
        score=score,
        map_shape=(4, 4),
        frame_shape=(64, 64, 3),
        bundle_digest="sha256:00",
        worker="0",
        batch_size=1,
        received_ns=1,
        started_ns=2,
        finished_ns=3,
    )


def wait(condition) -> None:
    ends_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends_s, "not within 5 s"
        time.sleep(0.01)


def decide(home: Home) -> subprocess.Popen[str]:
    """Start the decision stage."""
    with (home.path / "decision.log").open("a") as log:
        command = [sys.executable, "-m", "decision", "--home", str(home.path)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)


class Station:
    """What a test has in hand."""

    def __init__(self, home: Home, line: Line, decision: subprocess.Popen[str], client: Onlooker) -> None:
        self.line = line
        self.client = client
        self._home = home
        self.folder = home.path
        self.url = f"opc.tcp://127.0.0.1:{home.read_station().opcua.port}"
        self._decision = decision

    def kill(self) -> None:
        """Kill the decision stage as `kill -9` does, and start it again."""
        self._decision.send_signal(signal.SIGKILL)
        self._decision.wait()
        self._decision = decide(self._home)

    def state(self) -> str:
        automatic = self.client.ask(read=f"{AUTOMATIC}/CurrentState")
        return automatic["value"] or self.client.ask(read=f"{MACHINE}/CurrentState")["value"]

    def call(self, where: str, method: str, *arguments: dict[str, object]):  # type: ignore[no-untyped-def]  # status or values
        """Call a method; return its values, or the status where it is bad."""
        done = self.client.ask(call=[where, f"vision:{method}"], arguments=list(arguments))
        assert "failed" not in done, done
        return done["values"] if done["status"] == "Good" else done["status"]

    def caused(self, where: str, method: str, cause: int = 0, said: str = ""):  # type: ignore[no-untyped-def]  # as above
        return self.call(where, method, {"type": "Int32", "value": cause}, {"type": "String", "value": said})

    def start(self, method: str, *, part: str = "", meas: str = "", recipe: str = "", product: str = ""):  # type: ignore[no-untyped-def]  # as above
        ids = ((3015, meas), (3004, part), (3002, recipe), (3003, product))
        structures = [{"structure": kind, "value": {"id": one}} for kind, one in ids]
        done = self.call(AUTOMATIC, method, *structures, {"type": "Variant", "value": []})
        return (done[0]["id"], done[1]) if isinstance(done, list) else done

    def transitions(self, count: int) -> list[str]:
        return [self.client.event("state")["Transition"] for _ in range(count)]

    def close(self) -> None:
        self.client.close()
        self._decision.terminate()
        assert self._decision.wait(5) == 0
        self.line.close()


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    npm_packages.environment("node-opcua")
    folder = tmp_path_factory.mktemp("control")
    plc = Libmodbus()
    for name in ("press", "cell"):
        certify(folder, name)
    home = make_home(
        folder,
        plc_options=plc.options,
        certificate=str(folder / "press.pem"),
        private_key=str(folder / "press.key"),
        controllers={"cell": str(folder / "cell.pem")},
    )
    home.write_run(Run(run_id="r1"))
    plc.start()
    line, decision = Line(home, plc), decide(home)
    with served(home):
        made = Station(home, line, decision, Onlooker(home, secured=True, name="cell"))
        wait(lambda: made.state() == "ContinuousExecution")
        while not made.client.events.empty():
            made.client.events.get()
        yield made
        made.close()
    plc.stop()


def test_a_stop_lets_parts_be_judged_then_none_is_taken_and_the_heartbeat_stands(station: Station) -> None:
    line = station.line
    assert line.heart_beats()
    line.trigger(1)
    assert line.verdict(1).verdict is Judgement.PASS
    line.trigger(2, score=None)
    wait(lambda: line.plc("active_job") == 7)
    threading.Timer(0.3, lambda: line.trigger(2)).start()
    assert station.caused(AUTOMATIC, "Stop", 3, "lunch") == [0]
    assert line.verdict(2).verdict is Judgement.PASS  # it was under way
    assert station.transitions(1) == ["ContinuousExecutionToReadyStop"]
    assert station.state() == "Ready"
    assert line.told("Stop by cell: cause 3, lunch").name == "control"
    assert not line.heart_beats()
    assert line.plc("station_state") == 2
    line.trigger(3)
    assert (line.verdict(3).verdict, line.verdict(3).reasons) == (Judgement.FAULT, (Reason.STOPPED,))
    assert station.caused(AUTOMATIC, "Stop") == "BadInvalidState"
    assert station.caused(AUTOMATIC, "Abort") == "BadInvalidState"


def test_bad_arguments_are_refused_before_anything_is_done(station: Station) -> None:
    number, text = {"type": "Int32", "value": 0}, {"type": "String", "value": ""}
    assert station.call(MACHINE, "Halt", number) == "BadArgumentsMissing"
    assert station.call(MACHINE, "Halt", number, text, text) == "BadTooManyArguments"
    assert station.call(MACHINE, "Halt", text, number) == "BadInvalidArgument"
    wrong = {"structure": 3004, "value": {"id": "7"}}  # a part's id is no recipe's
    assert station.call(RECIPES, "PrepareRecipe", wrong, wrong) == "BadInvalidArgument"
    assert station.start("StartContinuous", recipe="9") == ("", -3)
    assert station.start("StartContinuous", product="cap") == ("", -3)
    assert station.start("StartContinuous", part="sn-1") == ("", -4)
    assert station.state() == "Ready"


def test_it_goes_on_by_start_continuous_and_results_carry_the_client_s_measurement(station: Station) -> None:
    job, error = station.start("StartContinuous", meas="m-1", recipe="7", product="bracket")
    assert (job, error) == ("press-2", 0)
    assert station.transitions(1) == ["ReadyToContinuousExecution"]
    assert station.line.heart_beats()
    assert station.line.plc("station_state") == 1
    station.line.trigger(4)
    assert station.line.verdict(4).verdict is Judgement.PASS
    told = station.client.events_until(result={"ResultId": {"id": "press-r1-00000004"}})[-1]["fields"]
    assert (told["MeasId"]["id"], told["JobId"]["id"]) == ("m-1", "press-2")
    assert station.start("StartContinuous") == "BadInvalidState"
    assert station.start("StartSingleJob") == "BadInvalidState"


def test_a_single_job_is_one_part(station: Station) -> None:
    assert station.caused(AUTOMATIC, "Stop") == [0]
    assert station.start("StartSingleJob", part="sn-1", meas="m-2") == ("press-3", 0)
    assert station.state() == "SingleExecution"
    assert station.line.heart_beats()
    station.line.trigger(5)
    station.line.trigger(6)
    assert station.line.verdict(5).verdict is Judgement.PASS
    assert station.line.verdict(6).reasons == (Reason.STOPPED,)
    told = station.client.events_until(
        state={"Transition": "SingleExecutionToReadyAuto"}, result={"PartId": {"id": "press-r1-00000006"}}
    )
    names = [one["fields"]["Transition"] for one in told if one["event"] == "state"]
    assert names == ["ContinuousExecutionToReadyStop", "ReadyToSingleExecution", "SingleExecutionToReadyAuto"]
    results = {one["fields"]["ResultId"]["id"]: one["fields"] for one in told if one["event"] == "result"}
    own = results["press-r1-00000005"]
    assert (own["PartId"]["id"], own["MeasId"]["id"], own["JobId"]["id"]) == ("sn-1", "m-2", "press-3")
    assert station.state() == "Ready"


def test_an_abort_gives_up_what_is_under_way(station: Station) -> None:
    assert station.start("StartContinuous")[1] == 0
    station.line.trigger(7, score=None)
    station.line.trigger(8)
    assert station.line.verdict(8).verdict is Judgement.PASS
    assert station.caused(AUTOMATIC, "Abort") == [0]
    assert station.line.verdict(7).reasons == (Reason.STOPPED,)
    assert station.state() == "Ready"


def test_recipes_are_prepared_where_the_plc_does_not_choose(station: Station) -> None:
    line = station.line
    nothing = {"structure": 3013, "value": {"id": ""}}
    cap = {"structure": 3002, "value": {"id": "9"}}
    internal, complete, error = station.call(RECIPES, "PrepareRecipe", cap, nothing)
    assert (internal["id"], complete, error) == ("cap", True, 0)
    wait(lambda: line.plc("active_job") == 9)
    assert station.state() == "Ready"
    unknown = {"structure": 3002, "value": {"id": "77"}}
    assert station.call(RECIPES, "PrepareRecipe", unknown, nothing)[1:] == [False, -1]
    other = {"structure": 3013, "value": {"id": "bracket"}}
    assert station.call(RECIPES, "UnprepareRecipe", unknown, other)[1] == -3
    assert station.call(RECIPES, "UnprepareRecipe", cap, nothing)[1] == 0
    assert station.state() == "Initialized"
    assert station.start("StartContinuous") == "BadInvalidState"
    bracket = {"structure": 3003, "value": {"id": "bracket"}}
    assert station.call(RECIPES, "PrepareProduct", bracket)[1] == 0
    assert station.state() == "Ready"
    assert station.call(f"{RECIPES}/vision:Recipes/3:cap", "Prepare") == [True, 0]
    assert station.call(f"{RECIPES}/vision:Recipes/3:cap", "Unprepare") == [0]
    line.ask_for_job(7)
    wait(lambda: line.plc("active_job") == 7)
    assert station.call(RECIPES, "PrepareRecipe", cap, nothing)[2] == -2
    assert station.call(RECIPES, "PrepareProduct", bracket)[1] == 0


def test_halted_it_stays_through_a_kill_until_it_is_reset(station: Station) -> None:
    assert station.caused(MACHINE, "Halt", said="evening") == [0]
    assert station.state() == "Halted"
    assert station.caused(MACHINE, "Halt") == [0]
    station.kill()
    assert station.start("StartContinuous") == "BadInvalidState"
    assert station.state() == "Halted"
    assert not station.line.heart_beats()
    assert station.caused(MACHINE, "Reset") == [0]
    assert station.state() == "Preoperational"
    assert station.caused(MACHINE, "Reset") == [0]
    assert station.start("StartContinuous") == "BadInvalidState"
    wait(lambda: station.call(MACHINE, "SelectModeAutomatic") == [0])  # once the camera is there again
    assert station.state() == "Ready"
    assert station.start("StartContinuous")[1] == 0
    assert station.state() == "ContinuousExecution"
    assert station.line.heart_beats()
    by_cell = [event for event in station.line.events if event.name == "control"]
    assert all(" by cell" in event.detail for event in by_cell)


def test_our_own_client_controls_it_too(station: Station) -> None:
    own = [f"--{name}={station.folder / file}" for name, file in IDENTITY.items()]

    def andon(*words: str) -> tuple[int, str, str]:
        """Run a command as people do: in this process it would hold up the thread that plays the line."""
        command = [sys.executable, "-m", "deploy", "opcua", *words, *own]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    assert andon("call", station.url, "Stop", "CauseDescription=tea")[:2] == (0, "Error: 0\n")
    assert station.line.told("Stop by cell: cause 0, tea")
    assert andon("watch", station.url, "--for=0.5")[:2] == (0, "press: Ready; prepared: bracket\n")
    code, _, said = andon("call", station.url, "Stop")
    assert (code, "BadInvalidState" in said) == (1, True)
    assert station.start("StartContinuous")[1] == 0


def test_the_configuration_is_the_station_file(station: Station) -> None:
    where = "3:press/vision:ConfigurationManagement"
    numbers = [{"type": "UInt32", "value": 0}, {"type": "UInt32", "value": 0}, {"type": "Int32", "value": 0}]
    complete, count, _, (own,), error = station.call(where, "GetConfigurationList", *numbers)
    assert (complete, count, own["internalId"]["id"], error) == (True, 1, "press", 0)
    press = {"structure": 3008, "value": {"id": "press"}}
    assert station.call(where, "GetConfigurationById", press, numbers[2])[2] == 0
    assert station.call(where, "ActivateConfiguration", press) == [0]
    assert station.call(where, "ActivateConfiguration", {"structure": 3008, "value": {"id": "other"}}) == [-1]
    handle = {"type": "UInt32", "value": 0}
    assert station.call("3:press/vision:ResultManagement", "ReleaseResultHandle", handle) == [0]
    assert station.call(RECIPES, "ReleaseRecipeHandle", handle) == [0]
