"""`andon select` and `andon guide`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("select", help="try all detectors on a product, and say which one to take")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images of known truth (MVTec layout)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="report and bundles; run again to go on")
    parser.add_argument("--detectors", default="", metavar="A,B", help="these alone, as patchcore,patchcore-fast")
    parser.add_argument("--max-ms", type=float, metavar="MS", help="at most so long an image on this machine")
    parser.add_argument("--max-mb", type=float, metavar="MB", help="bundles of at most this size")
    parser.add_argument("--max-params", type=positive, metavar="N", help="at most so many numbers in the graph")
    parser.add_argument("--min-side", type=positive, metavar="PX", help="looks at this many pixels, at least")
    parser.add_argument("--false-rejects", type=float, default=0.01, metavar="RATE", help="to calibrate for (0.01)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="what the camera gives, if the files are mixed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive, default=1, help="threads to fit and to measure with (1)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run("selecting", "select"))
    parser = commands.add_parser("guide", help="which detector suits which situation, and why")
    parser.add_argument("situation", nargs="?", metavar="SITUATION", help="one of those that it lists")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run("guide", "guide"))


def _run(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        import importlib  # noqa: PLC0415 - each command loads only what it needs

        command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"deploy.{module}"), name)
        return command(arguments)

    return run
