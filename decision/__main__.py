"""Run the decision stage: `python -m decision --home DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.start import importing

with importing():
    from config.home import Home
    from config.service import leave, serve
    from decision.service import Decision


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m decision", description="Judge parts and drive the gate.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    return serve(lambda: Decision(Home(arguments.home)), "decision")


if __name__ == "__main__":
    leave(main())
