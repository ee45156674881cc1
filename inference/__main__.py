"""Run an inference worker: `python -m inference --home DIR --worker N`."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.home import Home
from config.service import leave, serve
from inference.keys import TrustStore
from inference.worker import Worker


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m inference", description="Turn frames into predictions.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    parser.add_argument("--worker", default="0", metavar="NAME", help="what no other worker of the station is called")
    parser.add_argument("--trust", type=Path, action="append", default=[], help="a public key to trust besides")
    arguments = parser.parse_args()
    name = f"worker-{arguments.worker}"

    def make() -> Worker:
        return Worker(Home(arguments.home), name, TrustStore.load(extra=arguments.trust))

    return serve(make, name)


if __name__ == "__main__":
    leave(main())
