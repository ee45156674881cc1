"""Serve one station's console: `python -m deploy.console --home DIR`.

Pages and answers are `storage/console`. What they need of the other rooms is put together here, since rooms do not
import each other: each thing meets a Protocol of `storage/console/context.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from config.start import importing

with importing():
    from config.home import Home
    from config.service import leave, serve
    from deploy.exporting.aside import Exporting
    from deploy.judging import Judging
    from storage.console.server import ConsoleServer


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m deploy.console", description="Serve one station's console.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    home = Home(parser.parse_args().home)
    return serve(lambda: ConsoleServer(home, Judging(home), Exporting(home)), "console")


if __name__ == "__main__":
    leave(main())
