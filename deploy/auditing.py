"""`andon audit`: the trail verified and shown, whether the station runs or not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from config.errors import EXIT_FAILURE, StoreError
from config.home import Home, default_path
from deploy.database import database
from deploy.table import NOTHING, Screen, clock
from storage import audit
from storage.chain import Entry, Head, Verification

_CONNECT = {"connect_timeout": 5, "application_name": "andon audit"}


def verify(arguments: argparse.Namespace) -> int:
    """Check the whole trail; what is whole becomes what this machine notes."""
    home = Home(arguments.home or default_path())
    anchor = audit.Anchor(home.path)
    anchors = {f"--head {head}": head for head in map(Head.parse, arguments.head)}
    with _connected(home, "audit verify") as connection:
        noted = anchor.read()
        if noted is not None:
            anchors[str(anchor.path)] = noted
        with connection.begin():
            found = audit.verify(connection, anchors)
        if found.whole and found.last is not None and home.path.is_dir():
            anchor.note(connection, found.last)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(found, anchors)) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in _lines(found, anchors))
    return 0 if found.whole else EXIT_FAILURE


def show(arguments: argparse.Namespace) -> int:
    """Show the last entries."""
    with _connected(Home(arguments.home or default_path()), "audit show") as connection, connection.begin():
        entries = audit.newest(connection, arguments.limit)
    if arguments.json:
        shown = [{"at": entry.at.isoformat() if entry.at else None, **entry._asdict()} for entry in entries]
        sys.stdout.write(json.dumps({"entries": shown}) + "\n")
    else:
        rows = [_row(entry) for entry in entries]
        names = ("number", "time", "who", "action", "subject", "before", "after")
        sys.stdout.writelines(line + "\n" for line in Screen(sys.stdout).table(names, rows))
    return 0


def head(arguments: argparse.Namespace) -> int:
    """Print the newest entry's number and hash."""
    with _connected(Home(arguments.home or default_path()), "audit head") as connection, connection.begin():
        found = audit.head(connection)
    if arguments.json:
        sys.stdout.write(json.dumps({"head": str(found) if found else None}) + "\n")
    else:
        sys.stdout.write(f"{found or NOTHING}\n")
    return 0


@contextmanager
def _connected(home: Home, doing: str) -> Iterator[Connection]:
    with database(home, doing) as url:
        try:
            with create_engine(url, poolclass=NullPool, connect_args=_CONNECT).connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
            raise StoreError(f"PostgreSQL: {lines[0]}") from error


def _as_json(found: Verification, anchors: dict[str, Head]) -> dict[str, object]:
    return {
        "whole": found.whole,
        "head": str(found.last) if found.last else None,
        "first_wrong": found.first_wrong,
        "fault": found.fault,
        "anchors": {where: str(noted) for where, noted in anchors.items()},
    }


def _lines(found: Verification, anchors: dict[str, Head]) -> Iterator[str]:
    entries = found.last.number if found.last else 0
    if found.fault is not None:
        yield f"BROKEN at entry {found.first_wrong}: {found.fault}"
        yield f"whole up to entry {entries}"
    else:
        yield f"whole: {entries} entries, the newest is {found.last or NOTHING}"
    for where, noted in anchors.items():
        yield f"checked against entry {noted.number} as noted in {where}"
    if not anchors:
        yield "nothing was noted outside the database: that entries are missing at the end would not be seen"


def _row(entry: Entry) -> tuple[str, ...]:
    said = (entry.who, entry.action, entry.subject, entry.before, entry.after)
    time = clock(entry.at) if entry.at else str(entry.at_us)
    return (str(entry.number), time, *(NOTHING if one is None else str(one) for one in said))
