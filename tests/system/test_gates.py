"""The station's own gates on a belt in a process of its own, behind a coupler by libmodbus; counted on that side."""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest
from belt_coupler import (
    BIN_FULL,
    EJECTED_SENSOR,
    ENCODER,
    GATE_MM,
    MM_PER_COUNT,
    PART_SENSOR,
    SENSOR_MM,
    STEADY_MM_S,
    TOP_MM_S,
    WINDOW_MM,
)
from coupler_peers import free_port

from config.errors import ConfigurationError
from config.messages import GateCommand, GateOutcome, Judgement
from config.station import Station
from decision import fates
from decision.gate import StationState
from decision.gates import Event, Gates, IoDown, IoUp
from decision.io import modbus

MS = 1_000_000
OUTCOMES = {"passed": GateOutcome.PASSED, "ejected": GateOutcome.EJECTED}


def station(**others: object) -> Station:
    gate = {
        "name": "reject",
        "output": 0,
        "distance_mm": GATE_MM,
        "window_mm": WINDOW_MM,
        "part": {"input": PART_SENSOR, "distance_mm": SENSOR_MM, "tolerance_mm": 20},
        "ejected": {"input": EJECTED_SENSOR, "after_ms": 40, "tolerance_ms": 40},
        "bin_full_input": BIN_FULL,
    }
    tables: dict[str, object] = {
        "station": "test",
        "recipes": {"r": Path("r.toml")},
        "recipe": "r",
        "cameras": [{"name": "top", "type": "simulated"}],
        "io": {"type": "modbus", "line_stop_output": 1},
        "encoder": {"mm_per_count": MM_PER_COUNT, "top_speed_mm_s": TOP_MM_S},
        "gates": [gate],
        **others,
    }
    return Station.model_validate(tables)


def driver(port: int) -> modbus.Driver:
    counters = [{"address": ENCODER, "bits": 16}]
    return modbus.Driver(
        modbus.Options.model_validate(
            {"port": port, "timeout_ms": 500, "outputs": 2, "inputs": 3, "counters": counters}
        )
    )


class Belt:
    """The belt's process, and a decision loop that judges its parts by a plan."""

    def __init__(self, seed: int, **tables: object) -> None:
        self.port = free_port()
        program = Path(__file__).parents[1] / "belt_coupler.py"
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(self.port), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.counters: Counter[str] = Counter()
        self.gates = Gates(driver(self.port), station(**tables), self.counters)
        self.events: list[Event] = []
        self.silent = False
        self.gates.start()

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def report(self) -> dict[str, Any]:
        return json.loads(self.ask("report"))

    def send(self, number: int) -> None:
        _, trigger_ns, _ = self.ask(f"part {number}").split()
        self.gates.expect(number, f"p{number}", int(trigger_ns))

    def order(self, number: int, verdict: Judgement) -> None:
        command = GateCommand.PASS if verdict is Judgement.PASS else GateCommand.REJECT
        self.gates.order(number, f"p{number}", command, verdict)

    def spin(self, until: Callable[[], bool], timeout_s: float = 10.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end_s, self.events[-20:]
            select.select([self.gates], [], [], 0.004)
            if not self.silent:
                self.gates.able(StationState.READY)
            self.events += self.gates.events()

    def having(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def run(self, parts: int, seed: int, *, hang_up_every: int = 0) -> dict[int, tuple[Judgement, bool]]:
        """Send parts and judge them; return each one's verdict, and whether it was told in time."""
        chance = random.Random(seed)
        plan: dict[int, tuple[Judgement, bool]] = {}
        waiting: list[tuple[int, int]] = []  # when to judge which part
        self.spin(lambda: bool(self.having(IoUp)))
        self.travel(WINDOW_MM + 10)
        for number in range(parts):
            self.travel(chance.uniform(1.05, 2.5) * WINDOW_MM, waiting, plan)
            self.send(number)
            plan[number] = chance.choices(list(Judgement), (6, 2, 1, 1))[0], chance.random() > 0.05
            waiting.append((time.monotonic_ns() + round(chance.uniform(5, 250) * MS), number))
            if hang_up_every and number % hang_up_every == hang_up_every - 1:
                self.ask("hang up")
        self.spin(lambda: self.judge(waiting, plan))
        self.spin(lambda: len(self.having(fates.Finished)) == parts, 30)
        self.spin(lambda: len(self.report()["fates"]) == parts, 30)
        return plan

    def travel(
        self,
        distance_mm: float,
        waiting: list[tuple[int, int]] | None = None,
        plan: dict[int, tuple[Judgement, bool]] | None = None,
    ) -> None:
        """Go on judging until the belt has run so far."""
        end_mm = float(self.ask("way")) + distance_mm

        def there() -> bool:
            self.judge(waiting or [], plan or {})
            return float(self.ask("way")) >= end_mm

        self.spin(there)

    def judge(self, waiting: list[tuple[int, int]], plan: dict[int, tuple[Judgement, bool]]) -> bool:
        """Give the orders that are due; return whether none waits any more."""
        now_ns, missed = time.monotonic_ns(), {event.sequence for event in self.having(fates.Missed)}
        for due in [due for due in waiting if (due[0] <= now_ns and plan[due[1]][1]) or due[1] in missed]:
            waiting.remove(due)
            self.order(due[1], plan[due[1]][0])
        return not waiting

    def close(self) -> None:
        self.gates.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def make_belt() -> Iterator[Callable[..., Belt]]:
    if find_library("modbus") is None:
        pytest.skip("libmodbus is not installed (Debian: libmodbus5): the gates were NOT tried on a belt")
    belts: list[Belt] = []

    def make(seed: int, **tables: object) -> Belt:
        belts.append(Belt(seed, **tables))
        return belts[-1]

    yield make
    for belt in belts:
        belt.close()


def check(belt: Belt, plan: dict[int, tuple[Judgement, bool]]) -> None:
    """Compare what became of every part, as the belt saw it, with its verdict and with what the station says."""
    seen = {int(number): fate for number, fate in belt.report()["fates"].items()}
    assert sorted(seen) == sorted(plan)
    escaped = [number for number, fate in seen.items() if fate == "passed" and plan[number] != (Judgement.PASS, True)]
    assert escaped == []
    not_acted = {event.sequence for event in belt.having(fates.Missed, fates.Crowded, fates.TakenOff)}
    overkill = {number for number, fate in seen.items() if fate == "ejected" and plan[number] == (Judgement.PASS, True)}
    assert overkill <= not_acted
    finished = belt.having(fates.Finished)
    assert sorted(event.sequence for event in finished) == sorted(plan)
    for event in finished:
        assert event.outcome in {None, OUTCOMES[seen[event.sequence]]}


def test_a_belt_that_changes_speed_and_stops(make_belt) -> None:
    belt = make_belt(1)
    plan = belt.run(16, 1)
    check(belt, plan)
    late = {number for number, (_, in_time) in plan.items() if not in_time}
    missed = {event.sequence for event in belt.having(fates.Missed)}
    assert late <= missed
    if not belt.having(fates.Lost) and missed == late:  # nothing stalled us
        outcomes = {event.sequence: event.outcome for event in belt.having(fates.Finished)}
        assert outcomes == {
            number: GateOutcome.PASSED if told == (Judgement.PASS, True) else GateOutcome.EJECTED
            for number, told in plan.items()
        }
        assert not belt.having(fates.Unconfirmed, fates.Unexpected, fates.Exposed, fates.Stranger, fates.TakenOff)
    assert {event.outcome for event in belt.having(fates.Finished)} >= set(GateOutcome)
    assert belt.report()["stops"] > 0


def test_a_belt_without_an_encoder_that_runs_at_one_speed(make_belt) -> None:
    belt = make_belt(0, encoder=None, belt={"speed_mm_s": STEADY_MM_S})
    plan = belt.run(5, 5)
    check(belt, plan)
    assert GateOutcome.PASSED in {event.outcome for event in belt.having(fates.Finished)}


def test_a_connection_that_is_cut_leaves_the_gate_at_rest_and_comes_back(make_belt) -> None:
    belt = make_belt(2)
    plan = belt.run(10, 2, hang_up_every=4)
    check(belt, plan)
    assert len(belt.having(IoDown)) >= 2
    assert len(belt.having(IoUp)) == len(belt.having(IoDown)) + 1
    assert "io_down" not in belt.gates.alarms()


def test_where_nobody_judges_any_more_what_was_judged_is_ejected_too(make_belt) -> None:
    belt = make_belt(3)
    belt.spin(lambda: bool(belt.having(IoUp)))
    belt.travel(2 * WINDOW_MM)
    belt.send(0)
    belt.order(0, Judgement.PASS)
    belt.silent = True
    belt.spin(lambda: bool(belt.having(fates.Finished)) and bool(belt.report()["fates"]))
    assert belt.report()["fates"] == {"0": "ejected"}
    assert [event.sequence for event in belt.having(fates.Missed)] == [0]
    assert "gate_missed" in belt.gates.alarms()


def test_numbers_that_the_coupler_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"io: line_stop_output 2: io\.options has 2 outputs, numbered from 0"):
        Gates(driver(1), station(io={"type": "modbus", "line_stop_output": 2}), Counter())
    with pytest.raises(ConfigurationError, match=r"encoder: counter 1: io\.options has 1 counters"):
        Gates(driver(1), station(encoder={"counter": 1, "mm_per_count": 1, "top_speed_mm_s": 1}), Counter())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_parts_with_stops_and_cuts(make_belt) -> None:
    belt = make_belt(4)
    check(belt, belt.run(1000, 4, hang_up_every=100))
