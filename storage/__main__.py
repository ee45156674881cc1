"""`python -m storage --home DIR`: the storage process of one station."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from config.start import importing

with importing():
    from config.home import Home
    from config.service import leave, serve
    from storage.service import Storage

_SWITCH_S = 0.0005  # the loop must not wait 5 ms for a thread that encodes rows
_GARBAGE = 20_000  # objects between collections; a batch of records makes many that live for one transaction


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="storage", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_GARBAGE)
    leave(serve(lambda: Storage(Home(arguments.home)), "storage"))


if __name__ == "__main__":
    main()
