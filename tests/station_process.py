"""A whole station as `andon up` runs it, for the tests to disturb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ANDON = [sys.executable, "-m", "deploy"]
# what each process has in its command line, and nothing else has
PROCESSES = {
    "camera": "-m ingest",
    "worker": "-m inference",
    "decision": "-m decision",
    "storage": "-m storage --home",
    "console": "-m deploy.console",
    "plc": "-m deploy.plc ",
    "postgres": "postgres -D",
    "valkey": "valkey-server",
}


class StationProcess:
    """`andon up` as a child of the test."""

    def __init__(
        self, home: Path, *words: str, environment: dict[str, str] | None = None, andon: Sequence[str] = ANDON
    ) -> None:
        self.process = subprocess.Popen(
            [*andon, "up", "--home", str(home), "--json", "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.screen: list[str] = []
        self._running = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_running(self, within_s: float = 90) -> None:
        assert self._running.wait(within_s), "".join(self.screen)
        assert self.process.poll() is None, "".join(self.screen)

    def pids(self, name: str) -> list[int]:
        """Return the present processes of a kind, by the kernel's word."""
        listed = subprocess.run(
            ["/bin/ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
        return [int(pid) for pid, command in rows if PROCESSES[name] in command]

    def kill(self, name: str, number: int = signal.SIGKILL) -> bool:
        """Kill one process of a kind; False if none runs at this moment."""
        for pid in self.pids(name):
            os.kill(pid, number)
            return True
        return False

    def finish(self, within_s: float = 200) -> tuple[int, dict[str, Any]]:
        """Wait for the end; return exit code and summary."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError("the station did not end:\n" + "".join(self.screen)) from None
        self._reader.join(5)
        output = self.process.stdout.read() if self.process.stdout else ""
        last = output.strip().splitlines()[-1] if output.strip() else "{}"
        return code, json.loads(last)

    def stop(self) -> float:
        """Press Ctrl-C; return how long it took to end, in seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        return time.monotonic() - began

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.screen.append(line)
            if "is running: console at" in line:
                self._running.set()
        self._running.set()


def assert_whole(code: int, summary: dict[str, Any], parts: int, screen: list[str]) -> None:
    """Every trigger has one verdict and every verdict is recorded once."""
    told = json.dumps(summary) + "\n" + "".join(screen)
    assert code == 0, told
    assert summary["triggers"] == parts, told
    assert sum(summary["verdicts"].values()) == parts, told
    assert summary["recorded"] == parts, told
    assert (summary["missing"], summary["doubled"]) == (0, 0), told
