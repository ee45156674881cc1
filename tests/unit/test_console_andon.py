"""The andon light: what colour it has, and why, for what the processes say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.messages import Health
from config.station import CameraSection, PlcSection, Station, WorkersSection
from storage.console.andon import LineState, beside_names, judge, service_names

STATION = Station(
    station="st",
    recipes={"demo": Path("demo.toml")},
    recipe="demo",
    cameras=(CameraSection(name="top", type="folder"), CameraSection(name="side", type="folder")),
    workers=WorkersSection(count=2),
    plc=PlcSection(type="modbus"),
)
NAMES = service_names(STATION)


def healthy(**states: str) -> dict[str, Health]:
    """Return the health of all processes: READY unless `states` says else; SILENT ones are not there."""
    said = {name.replace("-", "_"): "READY" for name in NAMES} | states
    return {
        name: Health(service=name, state=said[name.replace("-", "_")], detail="so", pid=1, time_ns=0, counters={})  # type: ignore[arg-type]  # checked by pydantic
        for name in NAMES
        if said[name.replace("-", "_")] != "SILENT"
    }


def test_names_are_those_that_the_processes_report() -> None:
    assert NAMES == ("decision", "storage", "worker-0", "worker-1", "camera-top", "camera-side")


def test_what_runs_beside_the_line_is_known_and_never_changes_the_light() -> None:
    assert beside_names(STATION) == ("teacher",)
    assert not set(beside_names(STATION)) & set(NAMES)


def test_all_ready_is_running() -> None:
    light = judge(NAMES, healthy(), None)
    assert (light.state, light.causes) == (LineState.RUNNING, ())


@pytest.mark.parametrize(
    ("states", "state", "causes"),
    [
        ({"worker_1": "SILENT"}, LineState.DEGRADED, ("worker-1 does not answer",)),
        ({"camera_side": "STARTING"}, LineState.DEGRADED, ("camera-side is starting: so",)),
        ({"storage": "DEGRADED"}, LineState.DEGRADED, ("storage is degraded: so",)),
        ({"decision": "SILENT"}, LineState.STOPPED, ("decision does not answer",)),
        ({"decision": "STOPPING"}, LineState.STOPPED, ("decision is stopping: so",)),
        (
            {"worker_0": "SILENT", "worker_1": "STARTING"},
            LineState.STOPPED,
            ("worker-0 does not answer", "worker-1 is starting: so"),
        ),
        (
            {"camera_top": "SILENT", "camera_side": "SILENT"},
            LineState.STOPPED,
            ("camera-top does not answer", "camera-side does not answer"),
        ),
    ],
)
def test_what_is_wrong_is_named(states: dict[str, str], state: LineState, causes: tuple[str, ...]) -> None:
    light = judge(NAMES, healthy(**states), None)
    assert (light.state, light.causes) == (state, causes)


def test_silence_is_stopped_and_no_redis_is_unknown() -> None:
    assert judge(NAMES, {}, None).state is LineState.STOPPED
    light = judge(NAMES, healthy(), "Redis: refused")
    assert light.state is LineState.UNKNOWN
    assert "Redis: refused" in light.causes
