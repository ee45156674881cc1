"""Do what lessons need: `python -m deploy.teacher --home DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.start import importing

with importing():
    from config.home import Home
    from config.service import leave, serve
    from deploy.teacher.service import Teacher


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m deploy.teacher", description="Do what lessons need.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    return serve(lambda: Teacher(Home(arguments.home)), "teacher")


if __name__ == "__main__":
    leave(main())
