"""A peer's process: one request a line to it, one answer a line from it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
from pathlib import Path

from venvs import NotMeasuredError


def environment() -> dict[str, str]:
    """Return a peer's environment: none of ours."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


class Side:
    """A script in an environment of its own."""

    def __init__(self, python: Path, script: Path, folder: Path) -> None:
        self._name = script.stem
        self._process = subprocess.Popen(
            [str(python), str(script)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{script.stem}.log").open("w"),
            text=True,
            env=environment(),
        )
        self._log = folder / f"{script.stem}.log"

    def ask(self, do: str, timeout_s: float = 60, **values: object):
        """Return the answer; raise NotMeasuredError with the end of its log where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
            with selectors.DefaultSelector() as waiting:
                waiting.register(self._process.stdout, selectors.EVENT_READ)
                if not waiting.select(timeout_s):
                    raise NotMeasuredError(f"{self._name}: no answer to {do!r} within {timeout_s:.0f} s")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            told = [line for line in self._log.read_text().splitlines() if line.strip()][-1:] or ["nothing in its log"]
            raise NotMeasuredError(f"{self._name}: died at {do!r}: {told[0][:300]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(10)
