"""Serve one station's console: `python -m storage.console --home DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.home import Home
from config.service import leave, serve
from storage.console.server import ConsoleServer


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m storage.console", description="Serve one station's console.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    return serve(lambda: ConsoleServer(Home(arguments.home)), "console")


if __name__ == "__main__":
    leave(main())
