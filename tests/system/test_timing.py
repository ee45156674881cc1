"""The decision process keeps its time by what the machine allows, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_servers import state_folder
from plc_peers import free_port

from config.home import Home, Run
from config.station import CameraSection, DecisionSection, PlcSection, Station
from deploy.bench.observer import libmodbus
from deploy.bench.punctual import Condition, fifo_allowed, measure

RECIPE = 'product = "p"\njob = 1\n[views.top]\nbundle = "b"\nreview_above = 1.0\nreject_above = 2.0\n'
NO_FIFO = "SCHED_FIFO is not allowed here (CAP_SYS_NICE, or ulimit -r): the priorities were NOT tried"


@contextmanager
def decision(priority: int, *command: str) -> Iterator[tuple[int, list[dict[str, object]]]]:
    """Run the process without a PLC until it says READY; yield its pid and its log up to there."""
    with state_folder() as folder:
        (folder / "b").touch()
        (folder / "p.toml").write_text(RECIPE)
        home = Home(folder / "home")
        home.make()
        home.write_station(
            Station(
                station="st",
                recipes={"p": folder / "p.toml"},
                recipe="p",
                cameras=(CameraSection(name="top", type="simulated"),),
                plc=PlcSection(type="modbus", options={"port": free_port()}),
                decision=DecisionSection(realtime_priority=priority),
            )
        )
        home.write_run(Run(run_id="r"))
        words = [*command, sys.executable, "-m", "decision", "--home", str(home.path)]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            log: list[dict[str, object]] = []
            for line in process.stderr:
                log.append(json.loads(line))
                if log[-1]["event"] == "ready":
                    break
            try:
                yield process.pid, log
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=10)
        assert process.returncode == 0


def priorities(pid: int) -> list[int]:
    """Return each thread's real-time priority, 0 where it is not under SCHED_FIFO (proc(5), fields 40 and 41)."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found.append(int(fields[37]) if int(fields[38]) == os.SCHED_FIFO else 0)
    return sorted(found)


def locked_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))


@pytest.mark.skipif(not fifo_allowed(), reason=NO_FIFO)
def test_all_of_it_runs_under_fifo_and_the_links_thread_a_step_above() -> None:
    with decision(20) as (pid, log):
        assert not [line for line in log if line["event"] == "no real-time priority"]
        # the loop's, ZeroMQ's two and the link's; 0: the one that reads recipe files, and numpy's for matrices, unused
        assert [found for found in priorities(pid) if found] == [20, 20, 20, 21]


def test_without_the_setting_it_runs_as_any_other_process() -> None:
    with decision(0) as (pid, _):
        assert set(priorities(pid)) == {0}


def test_memory_is_locked_or_a_line_says_what_is_missing() -> None:
    with decision(0) as (pid, log):
        told = [line for line in log if line["event"] == "memory is not locked"]
        assert (locked_kb(pid) > 50_000) is not bool(told), (locked_kb(pid), told)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give its rights away")
def test_it_judges_without_any_right_and_says_what_it_lacks() -> None:
    limits = ["prlimit", "--memlock=8388608:8388608", "--rtprio=0:0"]
    rights = ["setpriv", "--bounding-set=-ipc_lock,-sys_nice", "--inh-caps=-ipc_lock,-sys_nice"]
    with decision(20, *limits, *rights) as (pid, log):
        warned = {line["event"]: line["needs"] for line in log if line["level"] == "warning"}
        assert warned["no real-time priority"] == "CAP_SYS_NICE, or LimitRTPRIO=21 (ulimit -r)"
        assert warned["memory is not locked"] == "CAP_IPC_LOCK, or LimitMEMLOCK=infinity (ulimit -l)"
        assert set(priorities(pid)) == {0}
        assert locked_kb(pid) == 0


@pytest.mark.parametrize("library", ["libmodbus", pytest.param("pymodbus", marks=pytest.mark.slow)])
def test_the_bench_sees_every_verdict_arrive_in_the_order_of_its_times(library: str) -> None:
    if library == "libmodbus" and libmodbus() is None:
        pytest.skip("libmodbus is not installed (Debian: libmodbus5): the bench was NOT tried with it")
    measured = measure(
        Condition(loaded=False, fifo=fifo_allowed()), 60, libmodbus() if library == "libmodbus" else None
    )
    assert measured.observer.startswith(library)
    assert measured.parts == 60
    assert measured.garbage_in_path == 0
    assert {len(values) for values in measured.intervals_ms.values()} == {60}
    assert min(min(values) for values in measured.intervals_ms.values()) >= 0
