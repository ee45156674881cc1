"""`andon recipe`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("recipe", help="how a product is judged: check a recipe file, see what it means")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser("check", help="validate it whole, with all that it names, and say what it means")
    check.add_argument("recipe", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="one JSON object on stdout")
    check.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy import recipes  # noqa: PLC0415 - each command loads only what it needs

    return recipes.check(arguments)
