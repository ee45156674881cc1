"""Workers on another machine: over TCP, encrypted, and by a monotonic clock that is not the station's."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from live_servers import state_folder
from station_process import ANDON, StationProcess, assert_whole

from config.curve import Keys
from deploy import stations

AHEAD_S = 500_000
SHIFTED = ["unshare", "--time", f"--monotonic={AHEAD_S}"]  # time_namespaces(7)
PARTS = 20


def listening(folder: Path) -> Path:
    """Write the demo's station file with no worker of its own, and keys for its bus."""
    demo = stations.DEMO.parent
    for file in demo.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = min(probe.getsockname()[1], 60_000)
    file = folder / "station.toml"
    text = stations.DEMO.read_text().replace("count = 2", f'count = 0\nlisten = "tcp://127.0.0.1:{port}"')
    assert "listen" in text
    Keys.make(folder / "bus.keys")
    file.write_text(f'bus_keys = "bus.keys"\n{text}')
    return file


@pytest.mark.skipif(
    subprocess.run([*SHIFTED, "true"], capture_output=True, check=False).returncode != 0,
    reason="no time namespace can be made here (CAP_SYS_ADMIN): another machine's clock was NOT tried",
)
def test_another_machine_judges_every_part_in_time() -> None:
    with state_folder() as folder:
        file = listening(folder)
        words = ["worker", "--station", str(file), "--home", str(folder / "far"), "--name", "far"]
        with subprocess.Popen([*SHIFTED, *ANDON, *words], stderr=subprocess.PIPE, text=True) as far:
            assert far.stderr is not None
            screen = []
            for line in far.stderr:
                screen.append(line)
                if "working for station" in line:
                    break
            assert far.poll() is None, "".join(screen)
            station = StationProcess(folder / "home", "--station", str(file), "--parts", str(PARTS))
            code, summary = station.finish()
            far.send_signal(signal.SIGINT)
            _, said = far.communicate(timeout=20)
            screen.append(said)
        told = [*station.screen, *screen]
        assert_whole(code, summary, PARTS, told)
        assert summary["verdicts"].get("FAULT", 0) == 0, told
        # its times are told by the station's clock: else they would be days apart
        assert summary["latency_ms"]["inference"]["p99"] < 1000
        assert far.returncode == 0


def test_a_station_that_takes_no_such_workers_is_refused(tmp_path: Path) -> None:
    words = ["worker", "--station", str(stations.DEMO), "--home", str(tmp_path / "home")]
    ended = subprocess.run([*ANDON, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 78
    assert "workers.listen must name the address" in ended.stderr
