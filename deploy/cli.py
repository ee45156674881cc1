"""The `andon` command: every file of `deploy/commands` adds its own."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from typing import TYPE_CHECKING

from config import log
from config.errors import AndonError
from deploy import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_ORDER = ("up", "learn", "bench")  # the others follow by name
_NO_COMMAND = {"values"}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; an error is one line on stderr."""
    arguments = _parser().parse_args(words)
    log.configure("andon")
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except AndonError as error:
        sys.stderr.write(f"andon: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="andon", description="An always-on visual inspection station.")
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    names = {module.name for module in pkgutil.iter_modules(commands.__path__)} - _NO_COMMAND
    for name in (*_ORDER, *sorted(names - set(_ORDER))):
        importlib.import_module(f"deploy.commands.{name}").add(added)
    return parser
