"""`andon backup` and `andon restore`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("backup", help="copy a station's whole state into one file, while the line runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, such as DAY.tar")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_back_up)
    parser = commands.add_parser("restore", help="put a backup into an empty state folder")
    parser.add_argument("file", type=Path, metavar="FILE", help="what `andon backup` wrote")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_restore)


def _back_up(arguments: argparse.Namespace) -> int:
    from deploy.backup.command import back_up  # noqa: PLC0415 - each command loads only what it needs

    return back_up(arguments)


def _restore(arguments: argparse.Namespace) -> int:
    from deploy.backup.command import restore  # noqa: PLC0415 - each command loads only what it needs

    return restore(arguments)
