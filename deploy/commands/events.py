"""`andon events`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("events", help="what happened to the station, and the alarms that are on")
    parser.add_argument("--on", action="store_true", help="only the conditions that are on now")
    parser.add_argument("--since", metavar="TIME", help="as 2026-11-22T14:30, or back from now as 30min, 2h, 3d")
    parser.add_argument("--until", metavar="TIME", help="itself not included")
    parser.add_argument("--severity", action="append", default=[], help="INFO, WARNING or ALARM; repeatable")
    parser.add_argument("--station", metavar="NAME")
    parser.add_argument("--service", metavar="NAME", help="such as camera-top, worker-0, storage")
    parser.add_argument("--name", metavar="NAME", help="such as silent, degraded, restarted, not_written")
    parser.add_argument("--limit", type=positive, default=50, metavar="N", help="so many at most, newest first (50)")
    parser.add_argument("--after", metavar="CURSOR", help="go on where a list ended")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy.events import events  # noqa: PLC0415 - each command loads only what it needs

    return events(arguments)
