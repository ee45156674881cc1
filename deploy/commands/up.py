"""`andon up`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.start import importing
from deploy.commands.values import port, positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("up", help="run a station (the demo's without --station)")
    parser.add_argument("--station", type=Path, metavar="FILE", help="station file (TOML)")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--parts", type=positive, metavar="N", help="end after N parts, with a summary")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="play a folder of images instead of a station's parts"
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="judge --images by this bundle instead of a new one"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    parser.add_argument("--port", type=port, metavar="P", help="the console's port (0: any that is free)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with importing():
        from deploy.up import up  # noqa: PLC0415 - each command loads only what it needs

    return up(arguments)
