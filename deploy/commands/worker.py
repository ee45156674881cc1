"""`andon worker`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("worker", help="infer for a station that runs on another machine")
    parser.add_argument(
        "--station", type=Path, metavar="FILE", required=True, help="a copy of its file, with workers.listen"
    )
    parser.add_argument("--count", type=positive, default=1, metavar="N", help="workers on this machine (1)")
    parser.add_argument("--device", metavar="D", help="what they run on, such as cuda:0 (the file's)")
    parser.add_argument("--name", metavar="NAME", help="what no other machine of the station is called (the host's)")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy.working import work  # noqa: PLC0415 - each command loads only what it needs

    return work(arguments)
