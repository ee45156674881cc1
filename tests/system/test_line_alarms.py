"""Too many rejects, seen from outside of a real decision process: at the PLC by Modbus TCP, and as storage hears it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from coupler_peers import free_port
from decision_process import DecisionProcess
from leading_plc import READY, LeadingPlc

from config import events
from config.messages import Event, Judgement, Reason, Truth, Verdict

LINE_STOP = 4  # its register, as the manual has it
STATION = """
station = "alarmed"
recipe = "bracket"
recipes = {{ bracket = "bracket.toml" }}
cameras = [{{ name = "front", type = "simulated" }}]
plc = {{ type = "modbus", options = {{ port = {port} }}{options} }}
"""
RECIPE = """
product = "bracket"
job = 1
version = 12
deadline_ms = 60000
review_gate = "PASS"
alarms = { consecutive_rejects = 3, stop_line = true }

[views.front]
bundle = "bundle"
review_above = 1.0
reject_above = 2.0
reject_from_defects = 2

[[views.front.zones]]
name = "rim"
polygon_px = [[0, 0], [39, 0], [39, 79], [0, 79]]
reject_above = 1.5
"""
GOOD, GRAY, IN_RIM, MANY, BAD = {}, {(0, 6): 1.7}, {(0, 0): 1.7}, {(0, 4): 1.5, (4, 6): 1.5}, {(4, 4): 3.0}


class Line(DecisionProcess):
    """A station of that recipe, with a PLC at `port`."""

    def __init__(self, folder: Path, port: int, **plc: str) -> None:
        options = "".join(f', {name} = "{value}"' for name, value in plc.items())
        super().__init__(folder, STATION.format(port=port, options=options), RECIPE)
        self.parts = 0

    def part(self, cells: dict[tuple[int, int], float], *, challenge: bool = False) -> Verdict:
        """Send a part with these values in its map, and return its verdict as storage gets it."""
        self.parts += 1
        anomaly_map = np.zeros((8, 8), np.float32)
        for place, value in cells.items():
            anomaly_map[place] = value
        part_id = self.send(self.parts, anomaly_map, truth=Truth(good=False, challenge=True) if challenge else None)
        self.wait(lambda: f"verdict:{part_id}" in self.heard)
        found = self.heard[f"verdict:{part_id}"]
        assert isinstance(found, Verdict)
        return found


@contextlib.contextmanager
def with_plc(folder: Path, **plc: str) -> Iterator[tuple[Line, LeadingPlc]]:
    port = free_port()
    leading = LeadingPlc(port, 1)
    leading.start()
    line = Line(folder, port, **plc)
    try:
        yield line, leading
    finally:
        line.stop()
        leading.stop()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Line, LeadingPlc]]:
    with with_plc(tmp_path) as both:
        yield both


@pytest.fixture
def led(tmp_path: Path) -> Iterator[tuple[Line, LeadingPlc]]:
    """A line whose PLC leads."""
    with with_plc(tmp_path, trigger="plc") as both:
        yield both


def test_rejects_in_a_row_stop_the_line_through_a_kill_until_a_part_is_passed(made: tuple[Line, LeadingPlc]) -> None:
    line, plc = made
    rules = [line.part(cells) for cells in (GOOD, GRAY, IN_RIM, MANY)]
    assert [one.verdict for one in rules] == [Judgement.PASS, Judgement.REVIEW, Judgement.REJECT, Judgement.REJECT]
    assert rules[2].reasons == (Reason.ABOVE_THRESHOLD, Reason.IN_ZONE)
    assert rules[3].reasons == (Reason.TOO_MANY_DEFECTS, Reason.GRAY_ZONE)
    assert {one.recipe_version for one in rules} == {12}
    assert len({one.recipe_digest for one in rules}) == 1
    line.part(BAD, challenge=True)
    assert plc.words[LINE_STOP] == 0, "two rejects; a challenge part does not count"
    line.part(BAD)
    line.wait(lambda: plc.words[LINE_STOP] == 1)
    line.wait(lambda: line.alarms() == [("consecutive_rejects", "BEGAN")])

    line.kill()
    plc.start_cold()
    line.begin()
    line.wait(lambda: plc.words[LINE_STOP] == 1)  # it is known from the outbox, no part had to come
    line.wait(lambda: line.alarms() == [("consecutive_rejects", "BEGAN")] * 2)

    line.part(GRAY)  # passed at the gate, as the recipe wants it
    line.wait(lambda: plc.words[LINE_STOP] == 0)
    line.wait(lambda: len(line.alarms()) == 3)
    *_, began, ended = (event for event in line.heard.values() if isinstance(event, Event))
    assert (ended.state, ended.event_id) == ("ENDED", events.end_of(began.event_id))
    assert (began.service, began.severity) == ("decision", "ALARM")
    assert began.detail == "3 parts in a row were rejected; recipe bracket"


def test_what_the_plc_was_refused_is_an_event_each(led: tuple[Line, LeadingPlc]) -> None:
    line, plc = led
    line.wait(lambda: plc.words[15:17] != [0, 0])  # they know each other, and the camera is away

    def trigger(number: int) -> None:
        plc.program.number, plc.program.since_s, plc.program.trigger = number, time.monotonic(), True
        line.wait(lambda: plc.program.refused.get(number) == 1)
        line.wait(lambda: not plc.program.trigger)

    trigger(1)
    del plc.program.refused[1]
    trigger(1)  # the same again: told once
    trigger(3)
    line.wait(lambda: len(line.events("trigger_refused")) == 2)
    told = [(event.detail, event.state, event.severity) for event in line.events("trigger_refused")]
    assert told == [(f"part {number}: not ready (error 1)", "HAPPENED", "WARNING") for number in (1, 3)]
    plc.job = 77
    line.wait(lambda: bool(line.events("job_refused")))
    assert [event.detail for event in line.events("job_refused")] == ["the PLC asks for job 77, which no recipe has"]
    plc.job = 1

    def ready() -> bool:
        line.enlist()
        return plc.on(READY)

    line.wait(ready)
    assert len(line.events("trigger_refused")) == 2


def test_a_part_that_was_never_exposed_keeps_nobody_waiting_after_a_kill(led: tuple[Line, LeadingPlc]) -> None:
    line, plc = led

    def ready() -> bool:
        line.enlist()
        return plc.on(READY)

    line.wait(ready)
    plc.wants = 1
    line.wait(lambda: 1 in plc.program.acked)  # the camera, that is this test, takes no picture
    line.kill()
    line.begin()
    line.wait(lambda: not plc.on(READY))
    line.wait(ready)  # long before the part's deadline
    line.wait(lambda: bool(plc.program.results))
    assert [result.part for result in plc.program.results] == [1]
    line.wait(lambda: bool(line.verdicts()))
    (verdict,) = line.verdicts()
    assert (verdict.part_id, verdict.verdict) == (line.part_id(0), Judgement.FAULT)
    assert [view.reasons for view in verdict.views] == [(Reason.LATE,)]
