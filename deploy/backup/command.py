"""What `andon backup` and `andon restore` say."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from config.home import Home, default_path
from deploy.backup import backup as taking
from deploy.backup.restore import restore as put_back
from deploy.database import database
from deploy.logbook import ScreenProgress
from deploy.person import own_name

_GENTLE = 10  # nice: the line goes first


def back_up(arguments: argparse.Namespace) -> int:
    """Write a backup; return the exit code."""
    os.nice(_GENTLE)
    home = Home(arguments.home or default_path())
    with database(home, "making a backup") as url:
        made = taking.back_up(home, url, arguments.out, own_name(), ScreenProgress())
    values = {
        "file": str(made.path),
        "size_bytes": made.size_bytes,
        "seconds": round(made.seconds, 2),
        "manifest": made.digest,
        "images": made.manifest.images,
        "missing": made.manifest.missing,
        "left_out": made.manifest.left_out,
    }
    lines = [
        f"{made.path}: {made.size_bytes / 1e6:.1f} MB in {made.seconds:.1f} s; images: {made.manifest.images}",
        *(f"not there to be copied: {what}" for what in made.manifest.missing),
        *(f"left out, as no table of Andon's: {name}" for name in made.manifest.left_out),
    ]
    _say(values, lines, as_json=arguments.json)
    return 0


def restore(arguments: argparse.Namespace) -> int:
    """Put a backup back; return the exit code."""
    began_s = time.monotonic()
    home = Home(arguments.home or default_path())
    restored = put_back(arguments.file, home, own_name(), ScreenProgress())
    seconds = time.monotonic() - began_s
    start = f"andon up --home {home.path} --station {home.path / 'station.json'}"
    values = {**restored.model_dump(mode="json"), "seconds": round(seconds, 2), "start": start}
    day = f"{restored.made_at:%Y-%m-%d %H:%M:%S} UTC"
    lines = [
        f"station {restored.station!r} as of {day} is in {home.path}, after {seconds:.1f} s",
        f"{restored.verdicts} verdicts in the database, and what the journal holds; images: {restored.images}",
        *(f"was not there when the backup was made: {what}" for what in restored.missing),
        *(f"public key, trusted from now on: {path}" for path in restored.trusted),
        f"start it: {start}",
    ]
    if restored.fault:
        lines.insert(0, f"THE AUDIT TRAIL IS NOT WHOLE, and was not when the backup was made: {restored.fault}")
    _say(values, lines, as_json=arguments.json)
    return 0


def _say(values: dict[str, object], lines: list[str], *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(values) if as_json else "\n".join(lines)) + "\n")
    sys.stdout.flush()
