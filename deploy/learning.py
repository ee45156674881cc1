"""`andon train`, `evaluate` and `bundle`: the learning side on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from config import files
from config.errors import ConfigurationError
from deploy.logbook import ScreenProgress
from deploy.stations import DEMO_KEYS
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore
from inference.training import Evaluation, Thresholds, TrainingOptions, report
from inference.training import evaluate as evaluate_bundle
from inference.training import train as train_bundle
from inference.training.cost import cost

if TYPE_CHECKING:
    import argparse

    from inference.training.evaluation import Rate


LEAKS_NAMED = 5


def train(arguments: argparse.Namespace) -> int:
    """Fit, calibrate, prove and seal a bundle; write its recipe if asked for."""
    options: dict[str, object] = {}
    for text in arguments.option:
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigurationError(f"--option {text}: must be NAME=VALUE")
        options[name] = _value(value)
    asked = TrainingOptions.model_validate(
        {
            "images": arguments.data,
            "output": arguments.out,
            "name": arguments.data.resolve().name,
            "detector": arguments.detector,
            "options": options,
            "alpha": arguments.false_rejects,
            "seed": arguments.seed,
            "threads": arguments.threads,
        }
    )
    path = train_bundle(asked, ScreenProgress())
    bundle = _open(path)
    if arguments.recipe:
        files.write(arguments.recipe, _recipe(bundle, path, arguments).encode())
    return _tell(arguments, _facts(path, bundle))


def evaluate(arguments: argparse.Namespace) -> int:
    """Score labelled images the way the line does and say how often that is wrong."""
    bundle = _open(arguments.bundle)
    calibration = bundle.manifest.calibration
    review = calibration.review_above if arguments.review_above is None else arguments.review_above
    reject = max(review, calibration.reject_above) if arguments.reject_above is None else arguments.reject_above
    thresholds = Thresholds(review_above=review, reject_above=reject)
    found = evaluate_bundle(bundle, arguments.data, thresholds, ScreenProgress(), arguments.threads)
    found = found.model_copy(update={"cost": cost(bundle, arguments.threads)})
    sys.stdout.write((found.model_dump_json() if arguments.json else _report(found)) + "\n")
    if arguments.report:
        html, markdown = report.write(arguments.report, found, bundle)
        sys.stderr.write(f"report: {html} and {markdown}\n")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Show what is in a bundle."""
    return _tell(arguments, _facts(arguments.bundle, _open(arguments.bundle)))


def verify(arguments: argparse.Namespace) -> int:
    """Check a bundle's seal, signature and golden frames."""
    bundle = _open(arguments.bundle)
    Engine(bundle).check_golden()
    return _tell(arguments, {"bundle": str(arguments.bundle), "digest": bundle.digest, "verified": True})


def _open(path: Path) -> Bundle:
    return Bundle.open(path, TrustStore.load(extra=DEMO_KEYS))


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _facts(path: Path, bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest.model_dump(mode="json", exclude={"golden"})
    return {"bundle": str(path), "digest": bundle.digest, "signed_by": bundle.public_key, **manifest}


def _recipe(bundle: Bundle, path: Path, arguments: argparse.Namespace) -> str:
    calibration = bundle.manifest.calibration
    folder, path = arguments.recipe.resolve().parent, path.resolve()
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    return (
        f"product = {json.dumps(bundle.manifest.name)}\n"
        "job = 1           # what the PLC calls this product\n"
        "version = 1\n"
        "deadline_ms = 500\n\n"
        f"[views.{arguments.camera}]\n"
        f"bundle = {json.dumps(str(relative))}\n"
        f"bundle_digest = {json.dumps(bundle.digest)}\n"
        f"review_above = {calibration.review_above!r}\n"
        f"reject_above = {calibration.reject_above!r}\n"
    )


def _tell(arguments: argparse.Namespace, facts: dict[str, object]) -> int:
    if arguments.json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            sys.stdout.write(f"{name}\n")
            for inner, inner_value in value.items():
                sys.stdout.write(f"  {inner:20} {inner_value}\n")
        else:
            sys.stdout.write(f"{name:22} {value}\n")
    return 0


def _costs(found: Evaluation) -> list[str]:
    if found.cost is None:
        return []
    alone_ms, together_ms, resident = found.cost.ms_per_image, found.cost.ms_per_image_of_16, found.cost.resident_bytes
    return [
        f"time             {alone_ms:.1f} ms an image, {together_ms:.1f} in a batch of 16",
        f"size             {found.bundle_bytes / 1e6:.1f} MB, {resident / 1e6:.1f} MB in memory",
    ]


def _report(found: Evaluation) -> str:
    def rate(one: Rate) -> str:
        if not one.parts:
            return "no such images"
        return f"{one.events} of {one.parts} = {one.rate:.2%}  (95 %: {one.low:.2%} to {one.high:.2%})"

    def area(value: float | None) -> str:
        return "not measurable here" if value is None else f"{value:.2%}"

    lines = [
        f"image AUROC      {area(found.image_auroc)}",
        f"image AUPR       {area(found.image_aupr)}",
        f"best F1          {area(found.image_f1_max)}",
        f"pixel AUROC      {area(found.pixel_auroc)}",
        f"pixel AUPRO      {area(found.pixel_aupro)}",
        f"thresholds       review above {found.review_above:.4f}, reject above {found.reject_above:.4f}",
        f"false rejects    {rate(found.false_rejects)}",
        f"escapes          {rate(found.escapes)}",
        *_costs(found),
        "",
        f"{'class':20} {'parts':>6} {'passed':>7} {'review':>7} {'reject':>7} {'AUROC':>8}",
    ]
    lines += [
        f"{kind.kind:20} {kind.parts:6} {kind.passed:7} {kind.reviewed:7} {kind.rejected:7} "
        + (f"{kind.auroc:8.2%}" if kind.auroc is not None else f"{'':8}")
        for kind in found.kinds
    ]
    if found.leaks:
        lines += ["", f"{len(found.leaks)} test images show what a training image shows, which flatters these figures:"]
        lines += [
            f"  {leak.test} is like {leak.training} ({leak.similarity:.2f})" for leak in found.leaks[:LEAKS_NAMED]
        ]
    return "\n".join(lines)
