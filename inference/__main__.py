"""Run an inference worker: `python -m inference --home DIR --worker N`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from config import pages
from config.start import importing

if TYPE_CHECKING:
    from inference.worker import Worker


def main() -> NoReturn:
    """Parse the arguments and serve."""
    pages.ask_for_large()
    with importing():
        from config.home import Home  # noqa: PLC0415 - takes a while, and the process begins again first
        from config.service import leave, serve  # noqa: PLC0415 - likewise
        from inference import worker  # noqa: PLC0415 - likewise

    parser = argparse.ArgumentParser(prog="python -m inference", description="Turn frames into predictions.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    parser.add_argument("--worker", default="0", metavar="NAME", help="what no other worker of the station is called")
    parser.add_argument("--trust", type=Path, action="append", default=[], help="a public key to trust besides")
    arguments = parser.parse_args()
    name = f"worker-{arguments.worker}"

    def make() -> Worker:
        return worker.Worker(Home(arguments.home), name, arguments.trust)

    leave(serve(make, name))


if __name__ == "__main__":
    main()
