"""`andon query`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy import choosing
from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("query", help="find parts; count them; say since when a score or rate is what it is")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--counts", action="store_true", help="how many there are, by verdict, instead of a list")
    asked.add_argument("--rates", metavar="BUCKET", help="how many in each minute, hour, day or week, and their scores")
    asked.add_argument("--part", metavar="ID", help="all that is stored of one part")
    asked.add_argument("--choices", action="store_true", help="lines, products, recipes … that there are")
    asked.add_argument(
        "--since-when",
        metavar="WHAT",
        help="since when has it changed: score, rejects, review, fault or defects (of those parts, the share with a "
        "defect as chosen)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="list so many at most, newest first (50)")
    parser.add_argument("--after", metavar="CURSOR", help="go on where a list ended")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    choosing.add(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy.asking import query  # noqa: PLC0415 - each command loads only what it needs

    return query(arguments)
