"""`andon replay`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy import choosing
from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "replay", help="judge stored parts again, by what judged them then or by another bundle, and tell differences"
    )
    parser.add_argument("part", nargs="?", metavar="ID", help="the part; or choose parts below; newest first")
    parser.add_argument("--with-bundle", type=Path, metavar="FILE", help="judge by this bundle and its own thresholds")
    parser.add_argument("--with-recipe", type=Path, metavar="FILE", help="judge by this recipe (and its bundles)")
    parser.add_argument("--limit", type=positive, metavar="N", help="replay so many at most")
    parser.add_argument("--threads", type=positive, default=1, help="threads to judge with (1)")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="as the station file's (cpu)")
    parser.add_argument("--precision", choices=("f32", "bf16", "f16"), default="f32", help="the same (f32)")
    parser.add_argument(
        "--trust", type=Path, action="append", default=[], metavar="FILE", help="a public key to trust besides"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each part, then the summary's")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    choosing.add(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from deploy.replay.command import replay  # noqa: PLC0415 - each command loads only what it needs

    return replay(arguments)
