"""The `andon` command."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from config import log
from config.errors import AndonError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; an error is one line on stderr."""
    arguments = _parser().parse_args(words)
    log.configure("andon")
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except AndonError as error:
        sys.stderr.write(f"andon: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="andon", description="An always-on visual inspection station.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_up(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_bundle(commands)
    _add_bench(commands)
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("up", help="run a station (the demo's without --station)")
    parser.add_argument("--station", type=Path, metavar="FILE", help="station file (TOML)")
    parser.add_argument("--home", type=Path, metavar="DIR", help="state folder (default: ANDON_HOME, or this user's)")
    parser.add_argument("--parts", type=_positive, metavar="N", help="end after N parts, with a summary")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="play a folder of images instead of a station's parts"
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="judge --images by this bundle instead of a new one"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    parser.add_argument("--port", type=_port, metavar="P", help="the console's port (0: any that is free)")
    parser.set_defaults(run=_up)


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="learn a product from good images: images in, a sealed bundle out")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="good images, or DIR/train/good")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the bundle to write")
    parser.add_argument("--detector", default="patchcore", metavar="NAME", help="the detector (default: patchcore)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the detector; repeatable"
    )
    parser.add_argument(
        "--false-rejects", type=float, default=0.01, metavar="RATE", help="rate to calibrate for (0.01)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=_positive, default=1, help="threads to fit with (1)")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="write a recipe (TOML) with its thresholds, too")
    parser.add_argument("--camera", default="camera", help="the camera that the recipe is for")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_learn("train"))


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", help="measure a bundle on labelled images (MVTec AD layout)")
    parser.add_argument("--bundle", type=Path, required=True, metavar="FILE")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--review-above", type=float, metavar="SCORE", help="instead of the bundle's calibration")
    parser.add_argument("--reject-above", type=float, metavar="SCORE", help="instead of the bundle's calibration")
    parser.add_argument("--threads", type=_positive, default=1)
    parser.add_argument("--json", action="store_true", help="everything, every image included, as one JSON object")
    parser.set_defaults(run=_learn("evaluate"))


def _add_bundle(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    actions = commands.add_parser("bundle", help="look into a bundle").add_subparsers(metavar="ACTION", required=True)
    for name, help_text in (
        ("show", "what it is, what it was learnt from, how it is calibrated"),
        ("verify", "check seal and signature, then its golden frames"),
    ):
        parser = actions.add_parser(name, help=help_text)
        parser.add_argument("bundle", type=Path, metavar="FILE")
        parser.add_argument("--json", action="store_true")
        parser.set_defaults(run=_learn(name))


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="measure this machine: ratios to a bare reference in the same run")
    parser.add_argument("name", nargs="?", choices=("transport", "pipeline", "gate"), help="one of them; else all")
    parser.add_argument("--json", action="store_true", help="one JSON object for each bench")
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    from deploy.bench.command import bench  # noqa: PLC0415 - each command loads only what it needs

    return bench(arguments)


def _up(arguments: argparse.Namespace) -> int:
    from deploy.up import up  # noqa: PLC0415 - each command loads only what it needs

    return up(arguments)


def _learn(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from deploy import learning  # noqa: PLC0415 - each command loads only what it needs

        command: Callable[[argparse.Namespace], int] = getattr(learning, name)
        return command(arguments)

    return run


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:  # noqa: PLR2004 - TCP's range
        raise argparse.ArgumentTypeError(f"must be between 0 and 65535, not {number}")
    return number
