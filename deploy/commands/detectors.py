"""`andon detectors` and `andon weights`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("detectors", help="the detectors that can be learnt, and what each needs")
    parser.add_argument("--json", action="store_true", help="everything, every option included, as one JSON object")
    parser.set_defaults(run=_run("detectors"))
    parser = commands.add_parser("weights", help="weights of pretrained networks: which are here, add others")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="those that are known, and whether they are here")
    listing.set_defaults(run=_run("weights"))
    adding = actions.add_parser("add", help="check a file of weights by its digest, and keep it")
    adding.add_argument("file", type=Path, metavar="FILE", help="a state dict as PyTorch saves it")
    adding.add_argument("--name", help="whose weights they are, where no digest is published")
    adding.set_defaults(run=_run("add_weights"))
    for action in (listing, adding):
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _run(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from deploy import catalogue  # noqa: PLC0415 - each command loads only what it needs

        command: Callable[[argparse.Namespace], int] = getattr(catalogue, name)
        return command(arguments)

    return run
