"""`andon people`, `andon token`, and the first administrator of a station that is started for the first time.

Whoever may give these commands may read and write the station's database anyway: they ask for no sign-in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from config.errors import InputError
from config.home import Home, default_path
from deploy.database import database
from deploy.logbook import Logbook
from deploy.person import own_name
from deploy.table import NOTHING, Screen, clock
from storage.ledger import Ledger
from storage.people import Role
from storage.roster import FIRST, Member, Roster, name_of
from storage.tokens import Token, Tokens

_JOURNAL = "JOURNAL_STREAM"  # set by systemd where what we print is kept in its journal


def first(home: Home, url: str, logbook: Logbook) -> None:
    """Have an administrator, and show the one-time password on the screen and nowhere else; raise StoreError."""
    ledger = Ledger(url, home.path, "up")
    try:
        password = Roster(ledger).first("supervisor")
    finally:
        ledger.close()
    if password is None:
        return
    logbook.say(f"first start: the console's administrator is {FIRST!r}")
    if os.environ.get(_JOURNAL):
        logbook.say(f"for a one-time password: andon people password {FIRST} --home {home.path}")
    else:
        logbook.show(f"sign in as {FIRST!r} with the one-time password {password} (shown this once)")


def show_people(arguments: argparse.Namespace) -> int:
    """Show everybody."""
    with _ledger(arguments, "people") as ledger:
        members = Roster(ledger).members()
    if arguments.json:
        sys.stdout.write(json.dumps({"people": [one.model_dump(mode="json") for one in members]}) + "\n")
        return 0
    rows = [(one.name, one.role.value.lower(), _state(one), clock(one.added_at), clock(one.seen_at)) for one in members]
    sys.stdout.writelines(
        f"{line}\n" for line in Screen(sys.stdout).table(("name", "role", "state", "added", "seen"), rows)
    )
    return 0


def add_person(arguments: argparse.Namespace) -> int:
    """Add a person."""
    role = _role(arguments.role)
    with _ledger(arguments, "people add") as ledger:
        password = Roster(ledger).add(arguments.name, role, _by(arguments))
    return _tell_password(arguments, password)


def set_role(arguments: argparse.Namespace) -> int:
    """Change what a person may do."""
    role = _role(arguments.role)
    with _ledger(arguments, "people role") as ledger:
        Roster(ledger).set_role(arguments.name, role, _by(arguments))
    name = name_of(arguments.name)
    return _tell(arguments, {"name": name, "role": role.value}, f"{name} is {role.value.lower()} from now on")


def disable(arguments: argparse.Namespace) -> int:
    """Keep a person out."""
    with _ledger(arguments, "people disable") as ledger:
        Roster(ledger).disable(arguments.name, _by(arguments))
    name = name_of(arguments.name)
    return _tell(
        arguments, {"name": name, "disabled": True}, f"{name} is kept out: sessions and tokens are worth nothing"
    )


def enable(arguments: argparse.Namespace) -> int:
    """Let a person in again."""
    with _ledger(arguments, "people enable") as ledger:
        Roster(ledger).disable(arguments.name, _by(arguments), disabled=False)
    name = name_of(arguments.name)
    return _tell(arguments, {"name": name, "disabled": False}, f"{name} may sign in again")


def reset(arguments: argparse.Namespace) -> int:
    """Give a person a one-time password."""
    with _ledger(arguments, "people password") as ledger:
        password = Roster(ledger).reset(arguments.name, _by(arguments))
    return _tell_password(arguments, password)


def show_tokens(arguments: argparse.Namespace) -> int:
    """Show all tokens."""
    with _ledger(arguments, "token") as ledger:
        tokens = Tokens(ledger).all()
    if arguments.json:
        sys.stdout.write(json.dumps({"tokens": [one.model_dump(mode="json") for one in tokens]}) + "\n")
        return 0
    names = ("name", "person", "role", "added", "used", "ends")
    sys.stdout.writelines(f"{line}\n" for line in Screen(sys.stdout).table(names, [_row(one) for one in tokens]))
    return 0


def add_token(arguments: argparse.Namespace) -> int:
    """Add a token."""
    role = _role(arguments.role)
    with _ledger(arguments, "token add") as ledger:
        secret = Tokens(ledger).add(arguments.name, arguments.person, role, arguments.days, _by(arguments))
    return _tell(arguments, {"name": arguments.name, "token": secret}, f"{secret}\nshown this once: keep it")


def revoke(arguments: argparse.Namespace) -> int:
    """Make a token worth nothing."""
    with _ledger(arguments, "token revoke") as ledger:
        Tokens(ledger).revoke(arguments.name, _by(arguments))
    return _tell(arguments, {"name": arguments.name, "revoked": True}, f"{arguments.name} is worth nothing any more")


def _tell_password(arguments: argparse.Namespace, password: str) -> int:
    name = name_of(arguments.name)
    text = f"one-time password of {name}: {password}\nshown this once; it has to be changed at the first sign-in"
    return _tell(arguments, {"name": name, "password": password}, text)


def _tell(arguments: argparse.Namespace, answer: dict[str, object], text: str) -> int:
    sys.stdout.write((json.dumps(answer) if arguments.json else text) + "\n")
    return 0


def _role(said: str) -> Role:
    try:
        return Role(said.upper())
    except ValueError:
        names = ", ".join(role.value.lower() for role in Role)
        raise InputError(f"role {said!r:.40}: must be one of {names}") from None


def _by(arguments: argparse.Namespace) -> str:
    return arguments.by or own_name()


def _state(member: Member) -> str:
    if member.disabled:
        return "kept out"
    if member.provided:
        return "by the provider"
    return "one-time password" if member.must_change else "active"


def _row(token: Token) -> tuple[str, ...]:
    ends = clock(token.ends_at) if token.ends_at else NOTHING
    return (token.name, token.person, token.role.value.lower(), clock(token.added_at), clock(token.seen_at), ends)


@contextmanager
def _ledger(arguments: argparse.Namespace, doing: str) -> Iterator[Ledger]:
    home = Home(arguments.home or default_path())
    with database(home, doing) as url:
        ledger = Ledger(url, home.path, doing)
        try:
            yield ledger
        finally:
            ledger.close()
