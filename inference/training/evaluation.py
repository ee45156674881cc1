"""Judge a folder of images of known truth, through the same engine as the line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from config import dataset
from inference.bundle import Bundle
from inference.engine import Engine, Maps
from inference.images import read_image, read_mask
from inference.training.intervals import interval
from inference.training.metrics import PixelRoc, auroc
from inference.training.progress import Progress, unheard

Judgement = Literal["PASS", "REVIEW", "REJECT"]


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


class Evaluation(_Model):
    """How a bundle judges a folder of known truth.

    A false reject is a good part that did not pass (REVIEW or REJECT: both act like REJECT at the gate unless the
    recipe says otherwise), an escape is a bad part that passed. The AUROCs are None where one truth is missing.
    """

    bundle: str
    digest: str
    review_above: float
    reject_above: float
    image_auroc: float | None
    pixel_auroc: float | None
    false_rejects: Rate
    good_rejected: Rate
    escapes: Rate
    bad_reviewed: Rate
    kinds: tuple[KindResult, ...]
    ms_per_image: float
    images: tuple[Judged, ...]


def evaluate(
    bundle: Bundle,
    folder: Path,
    thresholds: Thresholds | None = None,
    progress: Progress = unheard,
    threads: int = 1,
) -> Evaluation:
    """Judge the test images of an MVTec AD folder, one at a time, at the calibrated thresholds or at others.

    `ms_per_image` is the median time of inference, without decoding. Raise InputError for a folder without test
    images and for an image that cannot be decoded.
    """
    calibration = bundle.manifest.calibration
    thresholds = thresholds or Thresholds(calibration.review_above, calibration.reject_above)
    samples = dataset.test_images(folder)
    engine = Engine(bundle, threads)
    engine.check_golden()
    judged, maps, times_ns = [], [], []
    for index, sample in enumerate(samples):
        frame = read_image(sample.path, bundle.manifest.channels)
        start_ns = time.perf_counter_ns()
        scores, anomaly_maps = engine.infer(frame[None])
        times_ns.append(time.perf_counter_ns() - start_ns)
        score = float(scores[0])
        judged.append(
            Judged(path=sample.path, kind=sample.kind, good=sample.good, score=score, verdict=thresholds.verdict(score))
        )
        maps.append(anomaly_maps[0])
        progress("evaluate", index + 1, len(samples))
    good = [image for image in judged if image.good]
    bad = [image for image in judged if not image.good]
    return Evaluation(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        review_above=thresholds.review_above,
        reject_above=thresholds.reject_above,
        image_auroc=auroc([image.score for image in judged], [not image.good for image in judged]),
        pixel_auroc=_pixel_auroc(samples, maps),
        false_rejects=Rate.of(sum(image.verdict != "PASS" for image in good), len(good)),
        good_rejected=Rate.of(sum(image.verdict == "REJECT" for image in good), len(good)),
        escapes=Rate.of(sum(image.verdict == "PASS" for image in bad), len(bad)),
        bad_reviewed=Rate.of(sum(image.verdict == "REVIEW" for image in bad), len(bad)),
        kinds=tuple(_by_kind(judged)),
        ms_per_image=float(np.median(times_ns)) / 1e6,
        images=tuple(judged),
    )


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


def _pixel_auroc(samples: list[dataset.Sample], maps: list[Maps]) -> float | None:
    """Return the AUROC pooled over the pixels of all good images and of all bad ones that have a mask."""
    roc = PixelRoc(min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    for sample, anomaly_map in zip(samples, maps, strict=True):
        if sample.mask is not None:
            mask = read_mask(sample.mask)
        elif sample.good:
            height_px, width_px = read_image(sample.path, 1).shape[:2]
            mask = np.zeros((height_px, width_px), np.bool_)
        else:
            continue
        full = cv2.resize(anomaly_map, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        roc.add(np.asarray(full, np.float32), mask)
    return roc.area()
