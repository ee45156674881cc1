"""`andon train`, `evaluate` and `bundle`: the learning side on the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from config import files
from config.errors import ConfigurationError
from deploy.logbook import ScreenProgress
from deploy.stations import DEMO_KEYS
from inference.bundle import Bundle, Manifest
from inference.engine import Engine
from inference.keys import TrustStore
from inference.training import Evaluation, Suspects, Thresholds, TrainingOptions, check, report
from inference.training import evaluate as evaluate_bundle
from inference.training import train as train_bundle
from inference.training.cost import cost

if TYPE_CHECKING:
    import argparse

    from inference.training.evaluation import Rate


DEFAULT_RATE = 0.01  # of false rejects
LEAKS_NAMED = 5
SUSPECTS_NAMED = 10


def train(arguments: argparse.Namespace) -> int:
    """Fit, calibrate, prove and seal a bundle, and write its recipe; with `--check` only look at the images."""
    parent = _open(arguments.update) if arguments.update else None
    asked = _asked(arguments, parent)
    if arguments.check:
        return _tell_suspects(arguments, check(asked, ScreenProgress()))
    path = train_bundle(asked, ScreenProgress(), parent=parent)
    bundle = _open(path)
    if arguments.recipe:
        files.write(arguments.recipe, _recipe(bundle, path, arguments).encode())
    sys.stderr.writelines(f"{line}\n" for line in (*_promise(bundle.manifest), *_warnings(bundle.manifest, arguments)))
    return _tell(arguments, _facts(path, bundle))


def _asked(arguments: argparse.Namespace, parent: Bundle | None) -> TrainingOptions:
    """Return what is asked for; of a bundle that is carried on, what is not said is as in that."""
    known = parent.manifest if parent else None
    values = {
        "images": arguments.data,
        "left_out": [Path(image).name for image in arguments.leave_out],
        "output": arguments.out,
        "name": known.name if known else arguments.data.resolve().name,
        "detector": arguments.detector or (known.detector if known else "patchcore"),
        "options": (dict(known.options) if known else {}) | _pairs("--option", arguments.option),
        "pixel_format": known.pixel_format if known else arguments.pixel_format,
        "augment": _pairs("--augment", arguments.augment) or None,
        "alpha": _rate(arguments, known),
        "seed": arguments.seed,
        "threads": arguments.threads,
        "report": arguments.report,
    }
    try:
        return TrainingOptions.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"andon train: {files.explain(error)}") from error


def _rate(arguments: argparse.Namespace, known: Manifest | None) -> float:
    if arguments.false_rejects is not None:
        return float(arguments.false_rejects)
    return known.calibration.alpha if known else DEFAULT_RATE


def _pairs(argument: str, texts: Sequence[str]) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigurationError(f"{argument} {text}: must be NAME=VALUE")
        pairs[name] = _value(value)
    return pairs


def _promise(manifest: Manifest) -> Iterator[str]:
    """Say what rate was asked for, what is promised, and what it takes to promise that."""
    calibration = manifest.calibration
    wanted, held_out, more = f"{calibration.alpha:.2%}", calibration.held_out_images, calibration.more_images
    if not held_out:
        yield (
            "false rejects: nothing is promised. The thresholds come from copies of a single image, which vary less "
            f"than parts do; {more} good images promise {wanted}"
        )
        return
    yield (
        f"false rejects: {wanted} asked for; at most {calibration.alpha_upper:.2%} with 95 % confidence, "
        f"by {held_out} held-out good images"
    )
    if more:
        in_all = math.ceil(more * max(1.0, manifest.images / held_out))  # where only a fifth of them is held out
        yield f"  about {in_all} more good images promise {wanted}"


def _warnings(manifest: Manifest, arguments: argparse.Namespace) -> Iterator[str]:
    """Say which images should be looked at before the bundle is used."""
    if manifest.outlying:
        named = ", ".join(manifest.outlying[:SUSPECTS_NAMED])
        more = f" and {len(manifest.outlying) - SUSPECTS_NAMED} more" if len(manifest.outlying) > SUSPECTS_NAMED else ""
        yield (
            f"warning: {len(manifest.outlying)} good images are unlike the others: {named}{more}. Parts like them pass "
            "from now on. Leave out what is bad (--leave-out IMAGE) and train again; keep what is only rare."
        )
    if manifest.alike:
        yield (
            f"warning: {manifest.alike} good images show what another shows: as parts they count once, and the "
            "promise above counts each"
        )
    if (manifest.outlying or manifest.alike) and not arguments.report:
        yield "  see them: --report DIR writes their pictures"


def _tell_suspects(arguments: argparse.Namespace, suspects: Suspects) -> int:
    """Tell what was found, and return 1 if anything was."""
    if arguments.json:
        facts = {
            "images": suspects.images,
            "checked": suspects.checked,
            "limit": suspects.limit,
            "review_above": suspects.review_above,
            "review_above_without": suspects.review_above_without,
            "outlying": [{"image": str(one.path), "score": one.score} for one in suspects.outlying],
            "alike": [
                {"image": str(pair.second), "like": str(pair.first), "similarity": pair.similarity}
                for pair in suspects.alike
            ],
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        return 0 if suspects.clean else 1
    limit = "too few to tell which lies far out" if suspects.limit is None else f"limit {suspects.limit:.5g}"
    lines = [f"{suspects.images} good images, {suspects.checked} scored by a detector that had not seen them; {limit}"]
    lines += [f"  unlike the others  {one.path}  {one.score:.5g}" for one in suspects.outlying]
    lines += [f"  like another       {pair.second}  {pair.first}  {pair.similarity:.2f}" for pair in suspects.alike]
    if suspects.outlying:
        lines += [f"review_above {suspects.review_above:.5g} with them, {suspects.review_above_without:.5g} without"]
    if suspects.clean:
        lines += ["  nothing to look at"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if suspects.clean else 1


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
    manifest = bundle.manifest.model_dump(mode="json", exclude={"golden", "held_out_scores"})
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
