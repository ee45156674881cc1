"""The log of all processes in one bounded file, and what a person should see of it on the screen."""

from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pathlib import Path

_FILE_BYTES = 10_000_000
_FILES = 4
_SHOWN = {"warning", "error", "critical"}


class Logbook:
    """Write JSON lines to `log/andon.log` (rotated: 50 MB at most) and the important ones to the screen."""

    def __init__(self, folder: Path, screen: TextIO = sys.stderr) -> None:
        self.path = folder / "andon.log"
        self._screen = screen
        self._file = RotatingFileHandler(self.path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8")
        self._started_ns = time.monotonic_ns()
        self._errors: dict[str, str] = {}

    def say(self, text: str, level: str = "info") -> None:
        """Show a line of the supervisor's own, and log it."""
        elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
        self._screen.write(f"{elapsed_s:7.2f} s  {text}\n")
        self._screen.flush()
        self.write("supervisor", level, text)

    def write(self, service: str, level: str, event: str) -> None:
        """Log a line in the daemons' format."""
        self._append(json.dumps({"service": service, "level": level, "event": event, "timestamp": _now()}))

    def take(self, service: str, line: str, *, silent: bool) -> None:
        """Log a line that a child wrote; show it if it is a warning or worse, or no line of ours (a traceback)."""
        try:
            entry = json.loads(line)
            level, event = str(entry["level"]), str(entry["event"])
        except (ValueError, KeyError, TypeError):
            entry, level, event = {}, "info" if silent else "warning", line
            self.write(service, level, line)
        else:
            self._append(line)
        if level in {"error", "critical"}:
            self._errors[service] = event
        if level in _SHOWN and not silent:
            known = {"level", "event", "service", "timestamp", "error", "traceback"}
            details = " ".join(f"{key}={value}" for key, value in entry.items() if key not in known)
            elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
            self._screen.write(f"{elapsed_s:7.2f} s  {service}: {event} {details}".rstrip() + "\n")
            if "traceback" in entry:
                self._screen.write(str(entry["traceback"]))
            self._screen.flush()

    def last_error(self, service: str) -> str | None:
        """Return the last error that a child logged."""
        return self._errors.get(service)

    def _append(self, line: str) -> None:
        self._file.emit(logging.makeLogRecord({"msg": line}))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
