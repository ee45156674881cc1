"""`andon recipe`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("recipe", help="how a product is judged: check a recipe file, see and choose recipes")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser("check", help="validate it whole, with all that it names, and say what it means")
    check.add_argument("recipe", type=Path, metavar="FILE")
    check.set_defaults(run=_check)
    show = actions.add_parser("list", help="the running station's recipes, as they are in force")
    show.set_defaults(run=_show)
    activate = actions.add_parser("activate", help="judge by another recipe from now on; where the PLC asks for none")
    activate.add_argument("recipe", metavar="NAME")
    activate.add_argument("--by", metavar="NAME", help="who says so (default: this account's name)")
    activate.set_defaults(run=_activate)
    for action in (show, activate):
        action.add_argument(
            "--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)"
        )
    for action in (check, show, activate):
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _check(arguments: argparse.Namespace) -> int:
    from deploy import recipes  # noqa: PLC0415 - each command loads only what it needs

    return recipes.check(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from deploy import switching  # noqa: PLC0415 - as above

    return switching.show(arguments)


def _activate(arguments: argparse.Namespace) -> int:
    from deploy import switching  # noqa: PLC0415 - as above

    return switching.activate(arguments)
