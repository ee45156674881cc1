"""`andon bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("bench", help="measure this machine: ratios to a bare reference in the same run")
    names = ("transport", "inference", "train", "pipeline", "gate", "storage", "query", "scaling", "soak")
    parser.add_argument("name", nargs="?", choices=names, help="one of them; else all")
    parser.add_argument("--rows", type=positive, metavar="N", help="verdicts that `query` asks among (1,000,000)")
    parser.add_argument("--minutes", type=float, metavar="M", help="for which `soak` watches (2; 30 every night)")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw targets and times into a folder, as PNG")
    parser.add_argument("--json", action="store_true", help="one JSON object for each bench")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy.bench.command import bench  # noqa: PLC0415 - each command loads only what it needs

    return bench(arguments)
