"""Judge a folder of images of known truth, through the same engine as the line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from config import dataset
from config.intervals import interval
from inference.bundle import Bundle
from inference.engine import Engine, Maps
from inference.images import read_image, read_mask
from inference.training.cost import Cost
from inference.training.leaks import leaks
from inference.training.metrics import PixelCurves, auroc, average_precision, best_f1
from inference.training.progress import Progress, unheard

Judgement = Literal["PASS", "REVIEW", "REJECT"]
OPERATING_RATES = (0.001, 0.005, 0.01)  # false rejects that a factory may put up with


class Thresholds(NamedTuple):
    """PASS up to `review_above`, REVIEW up to `reject_above`, REJECT beyond: as a recipe has it."""

    review_above: float
    reject_above: float

    def verdict(self, score: float) -> Judgement:
        """Return the verdict on a score."""
        if score <= self.review_above:
            return "PASS"
        return "REVIEW" if score <= self.reject_above else "REJECT"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Judged(_Model):
    """One image, its truth and what was made of it."""

    path: Path
    kind: str
    good: bool
    score: float
    verdict: Judgement


class Rate(_Model):
    """So many events among so many parts, with the exact 95 % interval of the rate (Clopper-Pearson)."""

    events: int
    parts: int
    low: float
    high: float

    @classmethod
    def of(cls, events: int, parts: int) -> Rate:
        """Return the rate with its interval."""
        low, high = interval(events, parts)
        return cls(events=events, parts=parts, low=low, high=high)

    @property
    def rate(self) -> float:
        """Return events per part; 0 where there were no parts."""
        return self.events / self.parts if self.parts else 0.0


class KindResult(_Model):
    """How one class of parts was judged; the AUROC is against all good parts."""

    kind: str
    parts: int
    passed: int
    reviewed: int
    rejected: int
    auroc: float | None


class Operating(_Model):
    """What escapes where the threshold is put so that at most a given rate of the good test parts is above it.

    It is chosen by the test images themselves, so it says what the scores could do and not what calibration promises.
    """

    rate: float
    above: float
    false_rejects: Rate
    escapes: Rate


class Leaked(_Model):
    """A test image that shows what a training image shows (inference/training/leaks.py)."""

    test: Path
    training: Path
    similarity: float


class Evaluation(_Model):
    """How a bundle judges a folder of known truth, and what it costs where that was measured (cost.py).

    A false reject is a good part that did not pass (REVIEW or REJECT: both act like REJECT at the gate unless the
    recipe says otherwise), an escape is a bad part that passed. The areas and F1 are None where one truth is missing,
    those of pixels also where the detector says no place.
    """

    bundle: str
    digest: str
    detector: str
    review_above: float
    reject_above: float
    image_auroc: float | None
    image_aupr: float | None
    image_f1_max: float | None
    f1_max_above: float | None
    pixel_auroc: float | None
    pixel_aupro: float | None
    false_rejects: Rate
    good_rejected: Rate
    escapes: Rate
    bad_reviewed: Rate
    operating: tuple[Operating, ...]
    kinds: tuple[KindResult, ...]
    bundle_bytes: int
    fit_s: float | None
    fit_cpu_s: float | None = None
    leaks: tuple[Leaked, ...]
    images: tuple[Judged, ...]
    cost: Cost | None = None


def evaluate(
    bundle: Bundle,
    folder: Path,
    thresholds: Thresholds | None = None,
    progress: Progress = unheard,
    threads: int = 1,
) -> Evaluation:
    """Judge the test images of an MVTec AD folder, one at a time, at the calibrated thresholds or at others.

    Where the folder holds the training images too, test images that show the same are named. Raise InputError for a
    folder without test images and for an image that cannot be decoded.
    """
    calibration = bundle.manifest.calibration
    thresholds = thresholds or Thresholds(calibration.review_above, calibration.reject_above)
    samples = dataset.test_images(folder)
    engine = Engine(bundle, threads)
    engine.check_golden()
    judged, maps = [], []
    for index, sample in enumerate(samples):
        frame = read_image(sample.path, bundle.manifest.channels)
        scores, anomaly_maps = engine.infer(frame[None])
        score = float(scores[0])
        judged.append(
            Judged(path=sample.path, kind=sample.kind, good=sample.good, score=score, verdict=thresholds.verdict(score))
        )
        maps.append(anomaly_maps[0].copy())
        progress("evaluate", index + 1, len(samples))
    scores_of_all, bad_of_all = [image.score for image in judged], [not image.good for image in judged]
    good = [image for image in judged if image.good]
    bad = [image for image in judged if not image.good]
    best = best_f1(scores_of_all, bad_of_all)
    curves = pixel_curves(samples, maps)
    return Evaluation(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        detector=bundle.manifest.detector,
        review_above=thresholds.review_above,
        reject_above=thresholds.reject_above,
        image_auroc=auroc(scores_of_all, bad_of_all),
        image_aupr=average_precision(scores_of_all, bad_of_all),
        image_f1_max=best.f1 if best else None,
        f1_max_above=best.above if best else None,
        pixel_auroc=curves.auroc(),
        pixel_aupro=curves.aupro(),
        false_rejects=Rate.of(sum(image.verdict != "PASS" for image in good), len(good)),
        good_rejected=Rate.of(sum(image.verdict == "REJECT" for image in good), len(good)),
        escapes=Rate.of(sum(image.verdict == "PASS" for image in bad), len(bad)),
        bad_reviewed=Rate.of(sum(image.verdict == "REVIEW" for image in bad), len(bad)),
        operating=tuple(_operating(good, bad)),
        kinds=tuple(_by_kind(judged)),
        bundle_bytes=bundle.size_bytes,
        fit_s=bundle.manifest.metrics.get("fit_s"),
        fit_cpu_s=bundle.manifest.metrics.get("fit_cpu_s"),
        leaks=_leaks(folder, samples, progress),
        images=tuple(judged),
    )


def _operating(good: list[Judged], bad: list[Judged]) -> Iterator[Operating]:
    falling = sorted((image.score for image in good), reverse=True)
    for rate in OPERATING_RATES if good else ():
        above = falling[int(rate * len(good))]
        yield Operating(
            rate=rate,
            above=above,
            false_rejects=Rate.of(sum(score > above for score in falling), len(good)),
            escapes=Rate.of(sum(image.score <= above for image in bad), len(bad)),
        )


def _leaks(folder: Path, samples: list[dataset.Sample], progress: Progress) -> tuple[Leaked, ...]:
    if not (folder / "train").is_dir():
        return ()
    found = leaks(dataset.training_images(folder), [sample.path for sample in samples], progress)
    return tuple(Leaked(**leak._asdict()) for leak in found)


def _by_kind(judged: list[Judged]) -> Iterator[KindResult]:
    good_scores = [image.score for image in judged if image.good]
    for kind in sorted({image.kind for image in judged}):
        images = [image for image in judged if image.kind == kind]
        verdicts = [image.verdict for image in images]
        truth = [False] * len(good_scores) + [True] * len(images)
        yield KindResult(
            kind=kind,
            parts=len(images),
            passed=verdicts.count("PASS"),
            reviewed=verdicts.count("REVIEW"),
            rejected=verdicts.count("REJECT"),
            auroc=None if kind == dataset.GOOD else auroc(good_scores + [image.score for image in images], truth),
        )


def pixel_curves(samples: list[dataset.Sample], maps: list[Maps]) -> PixelCurves:
    """Return the curves over the pixels of all good images and of all bad ones that have a mask; empty for one cell."""
    curves = PixelCurves(min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    if maps[0].size == 1:  # it says no place: an area would be that of the image's score
        return curves
    for sample, anomaly_map in zip(samples, maps, strict=True):
        if sample.mask is not None:
            mask = read_mask(sample.mask)
        elif sample.good:
            height_px, width_px = read_image(sample.path, 1).shape[:2]
            mask = np.zeros((height_px, width_px), np.bool_)
        else:
            continue
        full = cv2.resize(anomaly_map, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        curves.add(np.asarray(full, np.float32), mask)
    return curves
