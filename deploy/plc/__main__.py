"""Run the PLC simulator: `python -m deploy.plc --home DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from config.start import importing

with importing():
    from config import home, log
    from config.errors import AndonError
    from config.home import Home
    from deploy.plc import simulator
    from deploy.plc.coupled import CoupledLine, is_coupled
    from deploy.plc.line import StationLine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the PLC simulator of the station in --home; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.plc", description=main.__doc__)
    parser.add_argument("--home", type=Path, default=home.default_path(), help="state folder of the station")
    where = Home(parser.parse_args(arguments).home)
    log.configure("plc")
    try:
        simulator.run(CoupledLine(where) if is_coupled(where) else StationLine(where))
    except AndonError as error:
        log.logger().error(str(error), error=type(error).__name__)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
