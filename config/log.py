"""Structured log lines on stderr: JSON for programs, text for a terminal; and conditions that log twice."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def configure(service: str) -> None:
    """Send this process's log to stderr, every line with the service's name.

    `ANDON_LOG_LEVEL` sets the lowest level (default info).
    """
    level = logging.getLevelNamesMapping().get(os.environ.get("ANDON_LOG_LEVEL", "info").upper(), logging.INFO)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def logger() -> FilteringBoundLogger:
    """Return the process's logger."""
    log: FilteringBoundLogger = structlog.get_logger()
    return log


class Condition:
    """Something that is wrong for a while: one log line when it starts, one when it ends, a count between."""

    def __init__(self, name: str, counters: Counter[str]) -> None:
        """Count occurrences under `name` in `counters`."""
        self._name = name
        self._counters = counters
        self._since_ns: int | None = None
        self._count = 0

    @property
    def active(self) -> bool:
        """Whether it is going on."""
        return self._since_ns is not None

    def occur(self, **details: object) -> None:
        """Count one occurrence; the first one since the last end is logged."""
        self._counters[self._name] += 1
        self._count += 1
        if self._since_ns is None:
            self._since_ns = time.monotonic_ns()
            logger().warning(f"{self._name} began", **details)

    def end(self, **details: object) -> None:
        """Say that it is over, if it was going on."""
        if self._since_ns is None:
            return
        lasted_s = (time.monotonic_ns() - self._since_ns) / 1e9
        logger().info(f"{self._name} ended", count=self._count, lasted_s=round(lasted_s, 3), **details)
        self._since_ns, self._count = None, 0
