"""The link, over real Modbus TCP, to the PLC simulator in a process of its own."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plc_peers import Simulator
from pymodbus.client import ModbusTcpClient

from config.home import Home, Run
from config.messages import GateCommand, GateOutcome, Judgement
from config.schedule import Schedule
from decision import registers
from decision.gate import StationState
from decision.link import Link
from decision.news import (
    Event,
    GateMissed,
    GateOutcomeSeen,
    GateWritten,
    JobRequested,
    LinkDown,
    LinkUp,
)
from decision.plc import modbus
from deploy.plc import __main__ as plc
from deploy.plc.belt import Tally

MS = 1_000_000
JOBS = {"bracket": 7, "cap": 9}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Line:
    """A simulated line with its PLC."""

    def __init__(self, folder: Path, *, parts: int | None, **simulation: object) -> None:
        self.port = free_port()
        (folder / "bundle").touch()
        for product, job in JOBS.items():
            view = '[views.top]\nbundle = "bundle"\nreview_above = 1.0\nreject_above = 2.0\n'
            (folder / f"{product}.toml").write_text(f'product = "{product}"\njob = {job}\n{view}')
        station = {
            "station": "test",
            "recipes": {product: str(folder / f"{product}.toml") for product in JOBS},
            "recipe": "bracket",
            "cameras": [{"name": "top", "type": "simulated"}],
            "plc": {"type": "modbus", "options": {"port": self.port}},
            "simulation": {
                "rate_per_s": 50.0,
                "products": ["bracket"],
                "gate_travel_s": 0.4,
                "restart_after_s": 0.1,
                **simulation,
            },
        }
        self.home = Home(folder)
        self.home.make()
        (folder / "station.json").write_text(json.dumps(station))
        self.run = Run(run_id=f"run-{time.monotonic_ns()}", parts=parts)
        self.home.write_run(self.run)
        self.process: subprocess.Popen[str] | None = None

    def begin(self) -> Schedule:
        self.home.write_start(self.run, time.monotonic_ns() + 300 * MS)
        schedule = self.home.schedule()
        assert schedule is not None
        return schedule

    def switch_on(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", "deploy.plc", "--home", str(self.home.path)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        end_s = time.monotonic() + 10
        while wait and self.process.poll() is None and time.monotonic() < end_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)

    def switch_off(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=10)
        code, self.process = self.process.returncode, None
        return code, errors

    def read(self, register: registers.Register) -> int:
        """Return a register's last word, read by a client of the test's own."""
        return self._read(register.address, register.words)[-1]

    def results(self) -> list[int]:
        """Return the sequences of the results that the PLC holds."""
        start, width, found = registers.RESULTS.address, registers.RESULTS.words, []
        for address in range(start, registers.RESULTS.end, 64):
            words = self._read(address, 64)
            found += [registers.read_result(words[at : at + width]) for at in range(0, 64, width)]
        return sorted(result.sequence for result in found if result is not None)

    def _read(self, address: int, count: int) -> list[int]:
        with ModbusTcpClient("127.0.0.1", port=self.port) as client:
            return client.read_holding_registers(address, count=count).registers

    def tally(self) -> Tally:
        return Tally.model_validate_json((self.home.path / "plc.json").read_text())

    def link(self, run_id: str | None = None) -> Station:
        return Station(self.port, run_id or self.run.run_id)


class Station:
    """A decision loop that does nothing but keep its link."""

    def __init__(self, port: int, run_id: str) -> None:
        self.counters: Counter[str] = Counter()
        self.link = Link(modbus.Driver(modbus.Options(port=port)), run_id, self.counters)
        self.events: list[Event] = []
        self.link.start()

    def spin(self, until: Callable[[], bool], timeout_s: float = 10.0, *, renew: bool = True) -> None:
        """Run the loop until something holds; fail after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end_s, self.events[-20:]
            select.select([self.link], [], [], 0.01)
            if renew:
                self.link.able(StationState.READY)
            self.events += self.link.events()

    def spin_s(self, duration_s: float, *, renew: bool = True) -> None:
        end_s = time.monotonic() + duration_s
        self.spin(lambda: time.monotonic() >= end_s, renew=renew)

    def order(self, sequence: int, command: GateCommand = GateCommand.PASS, *, expires_ns: int | None = None) -> None:
        verdict = Judgement.PASS if command is GateCommand.PASS else Judgement.REJECT
        self.link.order(sequence, f"p{sequence}", command, verdict, expires_ns or time.monotonic_ns() + 60_000 * MS)

    def having(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def sequences(self, kind: type[GateWritten | GateMissed]) -> list[int]:
        return [event.sequence for event in self.events if isinstance(event, kind)]

    def outcomes(self) -> dict[int, GateOutcome]:
        return {event.sequence: event.outcome for event in self.events if isinstance(event, GateOutcomeSeen)}

    def up(self) -> bool:
        states = [event for event in self.events if isinstance(event, LinkUp | LinkDown)]
        return bool(states) and isinstance(states[-1], LinkUp)


@pytest.fixture
def make_line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(*, parts: int | None = None, **simulation: object) -> Line:
        lines.append(Line(tmp_path, parts=parts, **simulation))
        return lines[-1]

    yield make
    for line in lines:
        if line.process is not None:
            line.switch_off(signal.SIGKILL)


@pytest.fixture
def make_station() -> Iterator[Callable[[Line], Station]]:
    stations: list[Station] = []

    def make(line: Line, run_id: str | None = None) -> Station:
        stations.append(line.link(run_id))
        return stations[-1]

    yield make
    for station in stations:
        station.link.close()


def test_only_a_pass_opens_the_gate_and_the_plc_confirms_every_part(make_line, make_station) -> None:
    line = make_line(parts=40)
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    assert station.having(JobRequested) == [JobRequested(7)]
    schedule = line.begin()
    commands = {0: GateCommand.REJECT, 1: GateCommand.STOP, 2: None}
    for sequence in range(40):
        station.spin(lambda due_ns=schedule.time_ns(sequence) + 30 * MS: time.monotonic_ns() >= due_ns)  # noqa: B008 - now
        command = commands.get(sequence % 5, GateCommand.PASS)
        if command is not None:
            station.order(sequence, command, expires_ns=schedule.time_ns(sequence) + schedule.gate_travel_ns)
    station.spin(lambda: len(station.outcomes()) == 40)
    expected = [GateOutcome.EJECTED] * 3 + [GateOutcome.PASSED] * 2
    assert station.outcomes() == {sequence: expected[sequence % 5] for sequence in range(40)}
    assert station.sequences(GateWritten) == [sequence for sequence in range(40) if sequence % 5 != 2]
    assert station.having(GateMissed) == []
    assert line.read(registers.LINE_STOPS) == 8
    station.spin(lambda: line.read(registers.LINE_STOPPED) == 0, 2)  # the belt stood each time, and runs again
    code, errors = line.switch_off()
    assert code == 0, errors
    tally = line.tally()
    counts = (tally.passed, tally.ejected, tally.ejected_unjudged, tally.unseen, tally.stop_requests)
    assert counts == (16, 24, 8, 0, 8)
    assert tally.belt_stops > 1
    assert tally.escapes == tally.late == 0
    assert tally.heartbeat_losses == 0


def test_a_plc_killed_in_mid_run_gets_everything_again_and_the_belt_went_on(make_line, make_station) -> None:
    line = make_line()
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    schedule = line.begin()
    killed, back_ns, sequence = False, 0, 0
    while not back_ns or schedule.time_ns(sequence) < back_ns + 300 * MS:
        station.spin(lambda due_ns=schedule.time_ns(sequence) + 20 * MS: time.monotonic_ns() >= due_ns)  # noqa: B008 - now
        station.order(sequence, expires_ns=schedule.time_ns(sequence) + schedule.gate_travel_ns)
        sequence += 1
        if not killed and len(station.outcomes()) >= 10:
            line.switch_off(signal.SIGKILL)
            line.switch_on(wait=False)
            killed = True
        if not back_ns and len(station.having(LinkUp)) == 2:
            back_ns = time.monotonic_ns()
    station.spin(lambda: sequence - 1 in station.outcomes())
    ups_and_downs = [type(event) for event in station.events if isinstance(event, LinkUp | LinkDown)]
    assert ups_and_downs == [LinkUp, LinkDown, LinkUp]
    assert station.counters["plc_down"] == 1
    assert sorted(station.sequences(GateWritten) + station.sequences(GateMissed)) == list(range(sequence))
    assert line.tally().unseen > 0
    # what was judged while the PLC was away and was still on the belt when it came back was told again in time
    on_the_belt = [part for part in range(sequence) if schedule.time_ns(part) + schedule.gate_travel_ns > back_ns]
    assert schedule.time_ns(on_the_belt[0]) < back_ns - 300 * MS
    assert {station.outcomes()[part] for part in on_the_belt} == {GateOutcome.PASSED}


def test_a_plc_that_freezes_is_noticed_and_told_what_it_missed(make_line, make_station) -> None:
    line = make_line()
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    line.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    station.spin(lambda: not station.up())
    assert time.monotonic() - began < 0.6
    for sequence in range(5):
        station.order(sequence)
    station.order(5, expires_ns=time.monotonic_ns() + 50 * MS)
    station.spin(lambda: station.sequences(GateMissed) == [5], 2)
    line.process.send_signal(signal.SIGCONT)
    station.spin(lambda: sorted(station.sequences(GateWritten)) == list(range(5)), 4)
    station.spin(station.up, 4)
    assert line.results() == list(range(5))


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "gone"])
def test_closing_is_quick_and_orders_are_missed_where_no_plc_answers(make_line, make_station, *, frozen: bool) -> None:
    line = make_line()
    with socket.create_server(("127.0.0.1", line.port)) if frozen else contextlib.nullcontext():
        station = make_station(line)
        began = time.monotonic()
        station.spin(lambda: bool(station.having(LinkDown)), 2)
        assert time.monotonic() - began < 0.6
        station.order(0, expires_ns=time.monotonic_ns() + 100 * MS)
        station.spin(lambda: station.sequences(GateMissed) == [0], 2)
        station.spin_s(0.5)
        assert len(station.having(LinkDown)) == 1
        began = time.monotonic()
        station.link.close()
        assert time.monotonic() - began < 0.35


def test_an_orderly_stop_tells_the_plc_first(make_line, make_station) -> None:
    line = make_line()
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    station.link.job_active(7)
    station.spin(lambda: line.read(registers.ACTIVE_JOB) == 7)
    assert line.read(registers.STATION_STATE) == StationState.READY
    station.order(3)
    station.link.close()
    assert station.link.events()[-1:] != []  # what was told last can still be read
    assert line.read(registers.STATION_STATE) == StationState.STOPPED
    time.sleep(0.7)
    assert line.read(registers.HEARTBEAT_LOST) == 1
    assert line.read(registers.HEARTBEAT_LOSSES) == 0  # it said that it stops


def test_a_loop_that_hangs_stops_the_heartbeat_though_the_link_lives(make_line, make_station) -> None:
    line = make_line()
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    station.spin(lambda: line.read(registers.HEARTBEAT_LOST) == 0)
    station.spin(lambda: line.read(registers.HEARTBEAT_LOST) == 1, 2, renew=False)
    assert line.read(registers.STATION_STATE) == StationState.DEGRADED
    station.spin(lambda: line.read(registers.HEARTBEAT_LOST) == 0, 2)
    assert line.read(registers.STATION_STATE) == StationState.READY
    assert line.read(registers.HEARTBEAT_LOSSES) == 1
    assert station.counters["loop_silent"] == 1


def test_a_station_that_cannot_judge_lets_its_heartbeat_stand(make_line, make_station) -> None:
    line = make_line()
    line.switch_on()
    station = make_station(line)
    station.spin(lambda: station.up() and line.read(registers.HEARTBEAT_LOST) == 0)

    def lost() -> bool:
        station.link.able(StationState.DEGRADED)
        return line.read(registers.HEARTBEAT_LOST) == 1

    station.spin(lost, 2, renew=False)
    assert line.read(registers.STATION_STATE) == StationState.DEGRADED
    assert station.counters["loop_silent"] == 0


def test_a_restarted_station_finds_its_results_standing_and_hears_the_outcomes_again(make_line, make_station) -> None:
    line = make_line(parts=8)
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    schedule = line.begin()
    for sequence in range(8):
        station.order(sequence, expires_ns=schedule.time_ns(sequence) + schedule.gate_travel_ns)
    station.spin(lambda: len(station.sequences(GateWritten)) == 8)
    station.link.close()
    time.sleep(max(0, (schedule.time_ns(7) + schedule.gate_travel_ns - time.monotonic_ns()) / 1e9) + 0.1)
    again = make_station(line)
    again.spin(again.up)
    again.spin(lambda: again.outcomes() == dict.fromkeys(range(8), GateOutcome.PASSED), 2)
    assert line.results() == list(range(8))
    again.link.close()
    other = make_station(line, "another run")
    other.spin(other.up)
    other.spin_s(0.1)
    assert line.results() == []  # an old PASS passes no part of another run
    assert other.outcomes() == {}


def test_a_line_that_changes_over_asks_for_the_other_job(make_line, make_station) -> None:
    line = make_line(parts=20, products=list(JOBS), changeover_every_parts=10, changeover_pause_s=0.3)
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    schedule = line.begin()
    station.spin(lambda: len(station.having(JobRequested)) == 2)
    assert station.having(JobRequested) == [JobRequested(7), JobRequested(9)]
    assert schedule.time_ns(9) < time.monotonic_ns() < schedule.time_ns(10)


def test_the_station_can_ask_for_the_line_to_stop(make_line, make_station) -> None:
    line = make_line()
    line.switch_on()
    station = make_station(line)
    station.spin(station.up)
    for wanted, stops in ((True, 1), (False, 1), (True, 2)):
        station.link.stop_line(wanted)
        station.spin(lambda wanted=wanted: line.read(registers.LINE_STOP) == wanted, 2)
        station.spin_s(0.1)  # a PLC looks once in each of its cycles
        assert line.read(registers.LINE_STOPS) == stops
    assert line.read(registers.LINE_STOPPED) == 1


def test_a_plc_whose_program_stands_still_is_not_up_but_holds_the_results(make_line, make_station) -> None:
    line = make_line()
    program = f"""
import asyncio
from deploy.plc.memories.modbus import Memory
async def main():
    await Memory("127.0.0.1", {line.port}).serve()
    await asyncio.sleep(60)
asyncio.run(main())
"""
    line.process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    station = make_station(line)
    station.order(1)
    station.spin(lambda: station.sequences(GateWritten) == [1])
    station.spin_s(1.0)
    assert station.having(LinkUp) == []
    assert line.results() == [1]


def test_more_orders_than_the_ring_holds_are_missed_not_forgotten(make_line, make_station) -> None:
    station = make_station(make_line())
    for sequence in range(registers.SLOTS + 10):
        station.order(sequence)
    station.spin(lambda: len(station.having(GateMissed)) == 10, 3)
    assert station.sequences(GateMissed) == list(range(10))
    assert station.counters["gate_missed"] == 10


class Bare:
    """A PLC's registers, and a program that does nothing but beat."""

    def __init__(self) -> None:
        self.peer = Simulator()
        self.peer.start()
        self.on = True
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat)
        self._beating.start()

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(0.05):
            beat += 1
            if self.on:
                self.peer.write(registers.PLC_HEARTBEAT, [beat])

    def tell(self, count: int, sequence: int) -> None:
        """Write one more outcome, as number `count`."""
        self.peer.write(registers.OUTCOMES, [0, sequence + 1, 1, 0], registers.slot(count - 1))
        self.peer.write(registers.OUTCOME_COUNT, registers.words(count))

    def link(self, run_id: str) -> Station:
        return Station(int(str(self.peer.options["port"])), run_id)

    def stop(self) -> None:
        self._ended.set()
        self._beating.join()
        self.peer.stop()


@pytest.fixture
def bare() -> Iterator[Bare]:
    plc = Bare()
    yield plc
    plc.stop()


def test_of_two_stations_at_one_plc_only_the_first_is_let_in_and_says_what_passes(bare) -> None:
    first = bare.link("first")
    first.spin(first.up)
    first.order(1, GateCommand.REJECT)
    first.spin_s(0.1)
    second = bare.link("second")
    second.order(1, GateCommand.PASS)
    end_s = time.monotonic() + 1.2
    while time.monotonic() < end_s:
        first.spin_s(0.02)
        second.spin_s(0.02)
        result = registers.read_result(bare.peer.read(registers.RESULTS, 1))
        assert result is not None
        assert result.command is GateCommand.REJECT
    assert "serves another station" in second.having(LinkDown)[0].reason
    assert first.up()
    assert not first.having(LinkDown)
    third = bare.link("third")
    third.spin_s(0.1)
    third.link.close()  # while it still looks: it leaves nothing behind
    assert registers.read_result(bare.peer.read(registers.RESULTS, 1)) == result
    first.link.close()
    second.spin(second.up)  # its turn, as soon as the other's heartbeat stands
    second.link.close()


def test_a_plc_whose_count_of_outcomes_goes_back_is_followed_and_it_is_an_alarm(bare) -> None:
    station = bare.link("run")
    station.spin(station.up)
    for count in range(1, 4):
        bare.tell(count, sequence=count)
    station.spin(lambda: len(station.outcomes()) == 3)
    bare.tell(1, sequence=7)
    station.spin(lambda: 7 in station.outcomes())
    assert "from 3 to 1" in station.link.alarms()["gate_outcomes_recounted"]
    bare.tell(5 << 16, sequence=8)  # words in the wrong order, for a moment
    station.spin(lambda: "gate_outcomes_lost" in station.link.alarms())
    bare.tell(3, sequence=9)
    station.spin(lambda: 9 in station.outcomes())
    station.link.close()


def test_a_plc_that_is_away_is_an_alarm_with_its_reason_until_it_is_back_for_good(bare) -> None:
    station = bare.link("run")
    station.spin(station.up)
    assert not station.link.alarms()
    bare.on = False
    station.spin(lambda: "stands still" in station.link.alarms().get("plc_down", ""))
    station.order(0, expires_ns=1)
    station.spin(lambda: "p0" in station.link.alarms().get("gate_missed", ""))
    bare.on = True
    station.spin(station.up)
    assert "plc_down" in station.link.alarms()
    station.spin(lambda: "plc_down" not in station.link.alarms())
    station.link.close()


def test_a_driver_that_breaks_its_contract_ends_the_process_not_just_the_thread() -> None:
    class Broken(modbus.Driver):
        def open(self) -> None:
            raise ZeroDivisionError

    link = Link(Broken(modbus.Options()), "run", Counter())
    link.start()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is raised when the thread has come to it
        for _ in range(200):
            link.able(StationState.READY)
            time.sleep(0.01)
    link.close()


def test_the_simulator_ends_at_once_and_keeps_its_tally(make_line) -> None:
    line = make_line()
    line.switch_on()
    began = time.monotonic()
    code, errors = line.switch_off()
    assert code == 0, errors
    assert time.monotonic() - began < 1.0
    assert line.tally().run_id == line.run.run_id


def test_a_port_in_use_is_a_configuration_error_that_names_it(make_line) -> None:
    line = make_line()
    with socket.create_server(("127.0.0.1", line.port)):
        line.switch_on(wait=False)
        _, errors = line.process.communicate(timeout=10)
    code, line.process = line.process.returncode, None
    assert code == 78
    assert str(line.port) in errors
    assert "plc.options.port" in errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"simulation": None}, "simulation"),
        ({"plc": {"type": "modbus", "options": {"prt": 1}}}, "plc.options: prt: unknown field"),
        ({"plc": {"type": "telegraph"}}, "plc.type 'telegraph'"),
        ({"simulation": {"products": ["bracket"], "rate_per_s": 200, "gate_travel_s": 2.0}}, "400 parts"),
    ],
)
def test_a_station_that_cannot_be_simulated_is_a_configuration_error(make_line, change, said: str, capsys) -> None:
    line = make_line()
    file = line.home.path / "station.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert plc.main(["--home", str(line.home.path)]) == 78
    assert said in capsys.readouterr().err


def test_without_a_station_it_says_which_file_is_missing(tmp_path: Path, capsys) -> None:
    assert plc.main(["--home", str(tmp_path)]) == 78
    assert "station.json: no such file" in capsys.readouterr().err
