"""`andon people` and `andon token`: who may do what at the console."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments."""
    people = commands.add_parser("people", help="who may sign in at the console, and what they may do")
    actions = people.add_subparsers(metavar="ACTION", required=True)
    _action(actions, "list", "everybody", "show_people")
    added = _action(actions, "add", "add a person; prints a one-time password", "add_person", changes=True)
    added.add_argument("name", metavar="NAME")
    added.add_argument("role", metavar="ROLE", help="viewer, operator, engineer or admin")
    role = _action(actions, "role", "let a person do more or less, at once", "set_role", changes=True)
    role.add_argument("name", metavar="NAME")
    role.add_argument("role", metavar="ROLE", help="viewer, operator, engineer or admin")
    for verb, help_text in (("disable", "keep a person out, at once"), ("enable", "let a person in again")):
        kept = _action(actions, verb, help_text, verb, changes=True)
        kept.add_argument("name", metavar="NAME")
    password = _action(actions, "password", "print a one-time password for a person", "reset", changes=True)
    password.add_argument("name", metavar="NAME")

    token = commands.add_parser("token", help="tokens by which programs speak to the console")
    actions = token.add_subparsers(metavar="ACTION", required=True)
    _action(actions, "list", "all tokens, without their secrets", "show_tokens")
    made = _action(actions, "add", "add a token; prints it this once", "add_token", changes=True)
    made.add_argument("name", metavar="NAME")
    made.add_argument("--person", required=True, metavar="NAME", help="for whom it speaks")
    made.add_argument("--role", default="viewer", metavar="ROLE", help="at most the person's (default: viewer)")
    made.add_argument("--days", type=int, metavar="N", help="until it ends (default: never)")
    gone = _action(actions, "revoke", "make a token worth nothing, at once", "revoke", changes=True)
    gone.add_argument("name", metavar="NAME")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    command: str,
    *,
    changes: bool = False,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_text)
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    if changes:
        parser.add_argument("--by", metavar="NAME", help="who says so (default: this account's name)")
    parser.set_defaults(run=_do(command))
    return parser


def _do(command: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from deploy import people  # noqa: PLC0415 - each command loads only what it needs

        do: Callable[[argparse.Namespace], int] = getattr(people, command)
        return do(arguments)

    return run
