"""The log of all processes in one bounded file, and what a person should see of it on the screen."""

from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FILE_BYTES = 10_000_000
_FILES = 4
_PROGRESS_NS = 2_000_000_000
_SHOWN = {"warning", "error", "critical"}


class _File(RotatingFileHandler):
    """A file that keeps its failure instead of printing a traceback for every line."""

    _failure: BaseException | None = None

    def append(self, line: str) -> BaseException | None:
        """Write a line; return what went wrong."""
        self._failure = None
        self.emit(logging.makeLogRecord({"msg": line}))
        return self._failure

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's own name and arguments
        self._failure = sys.exception()


class Logbook:
    """Write JSON lines to `log/andon.log` (rotated: 50 MB at most) and the important ones to the screen."""

    def __init__(self, folder: Path, screen: TextIO | None = None) -> None:
        self.path = folder / "andon.log"
        self._screen = screen or sys.stderr
        self._file = _File(self.path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8")
        self._started_ns = time.monotonic_ns()
        self._errors: dict[str, str] = {}
        self._unwritten = 0  # lines, since the file takes none

    def say(self, text: str, level: str = "info") -> None:
        """Show a line of the supervisor's own, and log it."""
        self.show(text)
        self.write("supervisor", level, text)

    def show(self, text: str) -> None:
        """Show a line of progress without logging it."""
        elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
        _write_line(self._screen, f"{elapsed_s:7.2f} s  {text}")

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
            self.show(f"{service}: {event} {details} {entry.get('traceback', '')}".rstrip())

    def last_error(self, service: str) -> str | None:
        """Return the last error that a child logged."""
        return self._errors.get(service)

    def _append(self, line: str) -> None:
        failure = self._file.append(line)
        if isinstance(failure, OSError):
            if not self._unwritten:
                self.show(f"{self.path}: the log cannot be written, the line goes on: {failure.strerror}")
            self._unwritten += 1
        elif failure is not None:
            raise failure
        elif self._unwritten:
            missing, self._unwritten = self._unwritten, 0
            self.say(f"{self.path}: the log is written again; of {missing} lines some may be missing", "warning")


def _write_line(screen: TextIO, text: str) -> None:
    screen.write(text + "\n")
    screen.flush()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class ScreenProgress:
    """Show a long task's stages on stderr (or through `show`): each one's begin and end, and every two seconds."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._show = show or (lambda text: _write_line(sys.stderr, text))
        self._stage = ""
        self._shown_ns = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note that `done` of `total` steps of `stage` are through."""
        now_ns = time.monotonic_ns()
        if stage == self._stage and done < total and now_ns - self._shown_ns < _PROGRESS_NS:
            return
        self._stage, self._shown_ns = stage, now_ns
        self._show(f"{stage}: {done} of {total}")
