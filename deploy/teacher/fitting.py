"""Check a lesson's images, and fit: what `andon train` does, with what a page can show of it beside."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

from pydantic import ValidationError

from config import files
from config.errors import ConfigurationError
from config.lessons import State
from deploy.teacher.stored import opened
from inference.training import TrainingOptions, evaluate, report, train
from inference.training import check as find_suspects
from inference.training.cost import cost

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.teacher.work import Job
    from inference.bundle import Bundle
    from inference.training import Evaluation

_CHECKED_BY = "patchcore"  # learns in seconds, whatever the lesson's own detector takes
_CHECK_OPTIONS = {"size_px": 160, "taps": [4, 8], "stride_px": 16}  # `andon guide`: a third of the time
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def check(job: Job) -> None:
    """Look for good images that are unlike the others, or all too like another."""
    folder = _anew(job.out / "check")
    find_suspects(_options(job, detector=_CHECKED_BY, options=_CHECK_OPTIONS, report=folder), job.tell)
    job.finish(State.READY)


def fit(job: Job) -> None:
    """Fit, calibrate, prove and seal a bundle, and evaluate it; what there was of an earlier fit goes."""
    folder, path = _anew(job.out / "fit"), job.out / "bundle.andon"
    (job.out / "found.json").unlink(missing_ok=True)
    fitting = job.lesson.fitting
    train(
        _options(job, detector=fitting.detector, options=fitting.options, report=folder, output=path),
        job.tell,
    )
    bundle = opened(path)
    found = None
    if any(job.lessons.defects(job.lesson.id).values()):
        images = job.lessons.path(job.lesson.id) / "images"
        found = evaluate(bundle, images, progress=job.tell)
        report.write(folder / "evaluation", found, bundle)
    job.tell("measure", 0, 1)
    facts = {**_facts(bundle), "cost": cost(bundle, 1).model_dump(), "evaluation": _evaluated(found)}
    files.write(job.out / "found.json", json.dumps(facts).encode())
    job.finish(State.FITTED, bundle_digest=bundle.digest)


def _options(job: Job, **changes: object) -> TrainingOptions:
    """Return what is to be learnt, from pixels as the view's present bundle takes them."""
    lesson = job.lesson
    there = set(job.lessons.images(lesson.id))
    view = job.home.read_recipes()[lesson.recipe].views[lesson.camera]
    manifest = opened(view.bundle).manifest
    values = {
        "images": job.lessons.path(lesson.id) / "images",
        "left_out": [name for name in lesson.left_out if name in there],
        "name": _NOT_IN_NAMES.sub("-", f"{lesson.product}-{lesson.camera}").strip("-._")[:64] or "product",
        "pixel_format": manifest.pixel_format,
        "alpha": lesson.fitting.alpha,
    }
    try:
        return TrainingOptions.model_validate(values | changes)
    except ValidationError as error:
        raise ConfigurationError(f"lesson {lesson.id}: {files.explain(error)}") from error


def _anew(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _facts(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "digest": bundle.digest,
        "size_bytes": bundle.size_bytes,
        "detector": manifest.detector,
        "options": manifest.options,
        "images": manifest.images,
        "calibration": manifest.calibration.model_dump(),
        "held_out_scores": sorted(round(score, 6) for score in manifest.held_out_scores),
        "metrics": manifest.metrics,
        "frame_px": [manifest.frame_width_px, manifest.frame_height_px],
        "created": manifest.created.isoformat(),
    }


def _evaluated(found: Evaluation | None) -> dict[str, object] | None:
    """Return what the picked defects say; None where none were picked."""
    if found is None:
        return None
    return {
        "escapes": found.escapes.model_dump(),
        "reviewed": found.bad_reviewed.model_dump(),
        "kinds": [kind.model_dump() for kind in found.kinds],
        "worst": sorted(path.name for path in _pictures_of(found)),
    }


def _pictures_of(found: Evaluation) -> list[Path]:
    return [image.path for image in found.images if not image.good and image.verdict == "PASS"]
