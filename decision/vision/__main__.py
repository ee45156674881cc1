"""`python -m decision.vision --home DIR`: the station's OPC UA server."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.errors import MissingExtraError
from config.home import Home
from config.service import Service, leave, serve


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m decision.vision", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    leave(serve(lambda: _vision(Home(arguments.home)), "opcua"))


def _vision(home: Home) -> Service:
    try:
        from decision.vision.service import Vision  # noqa: PLC0415 - its library is an extra: say which where it is absent
    except ImportError as error:
        raise MissingExtraError("the station's OPC UA server", "opcua", error) from error
    return Vision(home)


if __name__ == "__main__":
    main()
