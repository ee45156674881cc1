"""`andon bench [NAME] [--rows N] [--minutes M] [--plots DIR] [--json]`: run one bench, or all."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from config import pages
from config.errors import EXIT_FAILURE

if TYPE_CHECKING:
    import argparse

    from deploy.bench.report import Report

NAMES = ("transport", "inference", "train", "pipeline", "gate", "storage", "query", "scaling", "soak")


def bench(arguments: argparse.Namespace) -> int:
    """Run benches and print their figures; 1 if a target is missed."""
    pages.ask_for_large()  # as workers do, so that sessions beside them have no less
    reached = True
    for name in [arguments.name] if arguments.name else NAMES:
        size = {}
        if name == "query" and arguments.rows:
            size["rows"] = arguments.rows
        if name == "soak" and arguments.minutes:
            size["minutes"] = arguments.minutes
        report: Report = importlib.import_module(f"deploy.bench.{name}").run(**size)
        sys.stdout.write((report.as_json() if arguments.json else report.as_text()) + "\n")
        sys.stdout.flush()
        if arguments.plots:
            for path in importlib.import_module("deploy.bench.plots").write(report, arguments.plots):
                sys.stderr.write(f"{path}\n")
        reached &= report.reached
    return 0 if reached else EXIT_FAILURE
