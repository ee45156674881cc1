"""`andon export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config import plugins
from deploy import choosing


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("export", help="write parts as tables, folders, or data to train from")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR|FILE", help="where; must not be there yet")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--as", dest="form", choices=plugins.names("deploy.exporting.formats"), help="the format")
    what.add_argument(
        "--picked",
        metavar="PRODUCT",
        help="images that people picked to train from, for `andon train`; of what follows, only --camera",
    )
    parser.add_argument("--images", action="store_true", help="put images and crops beside tables (others have them)")
    parser.add_argument("--json", action="store_true", help="no progress; one JSON object on stdout at the end")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    choosing.add(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.picked is not None:
        from deploy.exporting.picked import export_picked  # noqa: PLC0415 - each command loads only what it needs

        return export_picked(arguments)
    from deploy.exporting.command import export  # noqa: PLC0415 - each command loads only what it needs

    return export(arguments)
