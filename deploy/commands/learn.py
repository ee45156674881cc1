"""`andon train`, `andon evaluate` and `andon bundle`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from deploy.commands.values import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands and their arguments."""
    _add_train(commands)
    _add_evaluate(commands)
    _add_bundle(commands)


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="learn a product from good images: images in, a sealed bundle out")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="good images, or DIR/train/good")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path, metavar="FILE", help="the bundle to write")
    wanted.add_argument(
        "--check", action="store_true", help="write none, only name images that a person should look at; exit 1 if any"
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write suspects.html, with pictures of those images")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="IMAGE", help="do not learn from this image; repeatable"
    )
    parser.add_argument(
        "--update",
        type=Path,
        metavar="BUNDLE",
        help="carry this bundle on: the good images are new ones, beside its own",
    )
    parser.add_argument("--detector", metavar="NAME", help="the detector (default: patchcore, or the bundle's)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the detector; repeatable"
    )
    parser.add_argument(
        "--augment",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="learn from changed copies, too: shift_px, rotate_deg, brightness_percent, flip, copies (8); repeatable",
    )
    parser.add_argument(
        "--pixel-format",
        metavar="NAME",
        help="what the camera gives, where the files are grey but mean more: bayer_rggb8, bayer_grbg8, …",
    )
    parser.add_argument(
        "--false-rejects", type=float, metavar="RATE", help="rate to calibrate for (0.01, or the bundle's)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive, default=1, help="threads to fit with (1)")
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
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html and report.md, with pictures")
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


def _learn(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from deploy import learning  # noqa: PLC0415 - each command loads only what it needs

        command: Callable[[argparse.Namespace], int] = getattr(learning, name)
        return command(arguments)

    return run
