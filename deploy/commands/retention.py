"""`andon retention`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("retention", help="remove now what the station would: what is too old, or too much")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go, when, and what takes how much")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy.retaining import retention  # noqa: PLC0415 - each command loads only what it needs

    return retention(arguments)
