"""`python -m storage --home DIR`: the storage process of one station."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from config.home import Home
from config.service import leave, serve
from storage.service import Storage

_SWITCH_S = 0.0005  # the loop must not wait 5 ms for a thread that encodes rows


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="storage", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    sys.setswitchinterval(_SWITCH_S)
    leave(serve(lambda: Storage(Home(arguments.home)), "storage"))


if __name__ == "__main__":
    main()
