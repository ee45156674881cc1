"""The supervisor and the service loop, with real child processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from config.errors import ConfigurationError, ServiceError
from deploy.child import Program
from deploy.lock import HomeLock
from deploy.logbook import Logbook
from deploy.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
SERVICE = """
import sys
from dataclasses import replace
from pathlib import Path
from config.errors import ConfigurationError
from config.home import Home
from config.service import Service, leave, serve

class Probe(Service):
    def open(self):
        what = sys.argv[2]
        if what == "misconfigured":
            raise ConfigurationError("station.toml: line 3: colour: unknown field")
        if what == "crashes":
            raise ZeroDivisionError
        self.watch(0, lambda: None) if what == "busy" else None
    def tick(self, now_ns):
        if sys.argv[2] == "hangs":
            import time
            time.sleep(1000)

leave(serve(lambda: Probe("probe", Home(Path(sys.argv[1]))), "probe"))
"""


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def supervisor(tmp_path, screen):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    made = Supervisor(tmp_path, Logbook(tmp_path, screen))
    yield made
    made.stop()
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def program(tmp_path, what, name="probe"):
    script = tmp_path / "probe.py"
    script.write_text(SERVICE)
    command = [sys.executable, str(script), str(tmp_path / "home"), what]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return Program(name, lambda: command, lambda: environment)


def turn_until(supervisor, condition, within_s=15):
    ends = time.monotonic() + within_s
    while not condition() and time.monotonic() < ends:
        supervisor.turn()
    assert condition()


def test_a_killed_child_comes_back_and_says_so(supervisor, tmp_path, screen):
    supervisor.start([program(tmp_path, "runs")], 15)
    first = supervisor.pids["probe"]
    os.kill(first, signal.SIGKILL)
    turn_until(supervisor, lambda: "ready again (restart 1)" in screen.getvalue())
    assert supervisor.pids["probe"] != first
    assert supervisor.restarts == {"probe": 1}
    assert "killed by SIGKILL" in screen.getvalue()


def test_a_configuration_error_is_not_tried_again(supervisor, tmp_path):
    with pytest.raises(ConfigurationError, match=r"station\.toml: line 3: colour"):
        supervisor.start([program(tmp_path, "misconfigured")], 15)


def test_a_child_that_always_crashes_is_tried_with_back_off_and_given_up_at_start(supervisor, tmp_path, screen):
    with pytest.raises(ServiceError, match="not ready within 4 s: probe"):
        supervisor.start([program(tmp_path, "crashes")], 4)
    assert 0 < supervisor.restarts["probe"] < 10
    assert "ZeroDivisionError" in screen.getvalue()


def test_a_child_that_hangs_is_killed(supervisor, tmp_path, screen, monkeypatch):
    monkeypatch.setattr("deploy.child._WATCHDOG_NS", 500_000_000)
    supervisor.start([program(tmp_path, "hangs")], 15)
    turn_until(supervisor, lambda: "ended (killed by SIGKILL)" in screen.getvalue())


def test_a_child_gives_way_to_others_as_it_is_told(supervisor, tmp_path):
    supervisor.start([replace(program(tmp_path, "runs"), niceness=10)], 15)
    assert os.getpriority(os.PRIO_PROCESS, supervisor.pids["probe"]) == os.getpriority(os.PRIO_PROCESS, 0) + 10


def test_children_stop_at_once(supervisor, tmp_path):
    supervisor.start([program(tmp_path, "runs", f"probe-{number}") for number in range(3)], 30)
    pids = supervisor.pids.values()
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 1.0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert supervisor.restarts == {}


def test_a_signal_asks_to_stop(supervisor, tmp_path):
    supervisor.start([program(tmp_path, "runs")], 15)
    os.kill(os.getpid(), signal.SIGTERM)
    supervisor.run(lambda: False)
    assert supervisor.stop_requested


def test_a_program_that_does_not_exist_is_named(supervisor):
    with pytest.raises(ServiceError, match="/no/such/program"):
        supervisor.start([Program("ghost", lambda: ["/no/such/program"], dict)], 1)


def test_a_service_leaves_on_sigterm_within_a_tenth_of_a_second(tmp_path):
    (tmp_path / "probe.py").write_text(SERVICE)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "probe.py"), str(tmp_path / "home"), "runs"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr
    assert '"event": "ready"' in process.stderr.readline()
    took = []
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    took.append(time.monotonic() - began)
    process.stderr.close()
    assert min(took) < 0.5


def test_the_lock_tells_who_holds_it(tmp_path):
    with HomeLock(tmp_path) as lock:
        lock.tell(console="http://127.0.0.1:1/")
        with (
            pytest.raises(ConfigurationError, match=rf"pid {os.getpid()}.*console http://127.0.0.1:1/"),
            HomeLock(tmp_path),
        ):
            pass
    with HomeLock(tmp_path):
        pass
