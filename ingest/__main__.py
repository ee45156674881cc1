"""Run the grabber of one camera: `python -m ingest --home DIR --camera NAME`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.start import importing

with importing():
    from config.home import Home
    from config.service import leave, serve
    from ingest.grabber import Grabber


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description="Grab one camera's frames.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    parser.add_argument("--camera", required=True, help="the camera's name in the station file")
    arguments = parser.parse_args()
    return serve(lambda: Grabber(Home(arguments.home), arguments.camera), f"camera-{arguments.camera}")


if __name__ == "__main__":
    leave(main())
