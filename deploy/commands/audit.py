"""`andon audit`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    actions = commands.add_parser("audit", help="who changed what: the trail, and whether it is whole").add_subparsers(
        metavar="ACTION", required=True
    )
    verify = _add(actions, "verify", "check every entry; exit 1 if one was edited, removed or moved")
    verify.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="an entry that was noted elsewhere (`andon audit head` prints it); repeatable",
    )
    show = _add(actions, "show", "the last entries, newest first")
    show.add_argument("--limit", type=positive, default=50, metavar="N", help="how many (50)")
    _add(actions, "head", "print the newest entry's NUMBER:HASH, to be noted elsewhere")


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_text)
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_audit(name))
    return parser


def _audit(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from deploy import auditing  # noqa: PLC0415 - each command loads only what it needs

        command: Callable[[argparse.Namespace], int] = getattr(auditing, name)
        return command(arguments)

    return run
