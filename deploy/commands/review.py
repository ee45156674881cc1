"""`andon review`, `andon hold` and `andon release`: what people say of parts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments."""
    review = _add(commands, "review", "say what a part is: a finding, or all findings so far")
    review.add_argument("--finding", metavar="FINDING", help="GOOD, DEFECT or UNSURE; without it, show the findings")
    review.add_argument("--camera", metavar="NAME", help="of this view only")
    review.add_argument("--region", type=int, metavar="N", help="of this defect of the view only, counted from 0")
    review.add_argument("--class", dest="defect_class", metavar="NAME", help="the defect's class")
    review.add_argument("--comment", default="", metavar="TEXT")
    hold = _add(commands, "hold", "keep a part: retention never removes it")
    hold.add_argument("--reason", required=True, metavar="TEXT")
    release = _add(commands, "release", "end a hold")
    release.add_argument("--reason", default="", metavar="TEXT")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("part_id", metavar="ID")
    parser.add_argument("--by", metavar="NAME", help="who says so (default: this account's name)")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_say(name))
    return parser


def _say(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from deploy import reviewing  # noqa: PLC0415 - each command loads only what it needs

        command: Callable[[argparse.Namespace], int] = getattr(reviewing, name)
        return command(arguments)

    return run
