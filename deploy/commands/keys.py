"""`andon keys`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from config.curve import Keys


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("keys", help="make the key pair of a station whose bus is encrypted")
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file, as the station file's bus_keys names it")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    Keys.make(arguments.file)
    sys.stdout.write(f"{arguments.file}: whoever has this file can speak on the bus; copy it to each machine\n")
    return 0
