"""`andon retention`: what is stored of each class, what goes, and when; whether the station runs or not."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from config.errors import EXIT_FAILURE
from config.home import Home, default_path
from deploy.database import database
from deploy.person import own_name
from deploy.table import NOTHING, Screen
from storage import store
from storage.addresses import parse_database_url
from storage.retention.survey import Holding, totals
from storage.retention.sweep import Sweep

_MB = 1024 * 1024
_COLUMNS = (
    "class",
    "parts",
    "protected",
    "oldest",
    "rows MB",
    "images",
    "images MB",
    "maps MB",
    "parts going",
    "images going",
    "next",
)


def retention(arguments: argparse.Namespace) -> int:
    """Show what is stored and what goes by age, then sweep, unless it is a dry run; exit 1 if space stays short."""
    home = Home(arguments.home or default_path())
    station = home.read_station()
    keep = station.storage.retention
    now = datetime.now(UTC)
    images = store.connect(station.storage.images, station.station)
    problem, swept, left = None, None, []
    try:
        with database(home, "retention") as url:
            address = parse_database_url(url, "database URL")
            sweep = Sweep(address, home.path, station.station, keep, images, Counter(), own_name())
            holdings = sweep.survey(now)
            passed = sweep.passed()
            if not arguments.dry_run:
                done = sweep.run(now)
                swept, problem, left = done.counts(), done.problem, done.left
    finally:
        if images is not None:
            images.close()
    if arguments.json:
        said = {"classes": {one.name: _as_json(one) for one in holdings}, "passed": passed, "swept": swept}
        sys.stdout.write(json.dumps({**said, "left": left, "problem": problem}) + "\n")
    else:
        lines = _lines(holdings, passed, swept)
        sys.stdout.writelines(line + "\n" for line in (*lines, *left, *([problem] if problem else [])))
    return EXIT_FAILURE if problem else 0


def _as_json(one: Holding) -> dict[str, object]:
    fields = {name: value for name, value in vars(one).items() if name != "name"}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


def _lines(holdings: Sequence[Holding], passed: Sequence[str], swept: dict[str, int] | None) -> list[str]:
    lines = list(Screen(sys.stdout).table(_COLUMNS, [_row(one) for one in (*holdings, totals(holdings))]))
    lines += [f"a bound is passed: {bound}" for bound in passed]
    if swept is None:
        lines.append("nothing was removed: this is a dry run")
    else:
        removed = f"{swept['rows_removed']} rows, {swept['images_removed']} images, {swept['maps_removed']} maps"
        lines.append(f"removed: {removed}; {_megabytes(swept['bytes_freed'])} MB freed")
    return lines


def _row(one: Holding) -> list[str]:
    return [
        one.name,
        str(one.parts),
        str(one.protected),
        _day(one.oldest),
        _megabytes(one.rows_bytes),
        str(one.images),
        _megabytes(one.images_bytes),
        _megabytes(one.maps_bytes),
        str(one.going_parts),
        str(one.going_images),
        _day(one.next_at),
    ]


def _day(at: datetime | None) -> str:
    return NOTHING if at is None else f"{at:%Y-%m-%d}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _MB:.1f}"
