"""From a folder of good images to a sealed bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from config.errors import ConfigurationError, InputError
from config.messages import PixelFormat
from inference import bundle
from inference.bundle import Bundle, Golden, Manifest
from inference.engine import Maps
from inference.images import Channels, Frame
from inference.keys import SigningKey
from inference.training import detector as detectors
from inference.training import suspects as suspicion
from inference.training import updating
from inference.training.augmentation import augmented
from inference.training.calibration import HELD_OUT_SHARE, calibrate, folds
from inference.training.detector import CROSS_FIT, Detector, Network
from inference.training.export import prove, to_onnx
from inference.training.good_images import GoodImages
from inference.training.mosaic import MOSAICS, Demosaic
from inference.training.options import Augmentation, TrainingOptions
from inference.training.outliers import outlying_above
from inference.training.progress import Progress
from inference.training.suspects import SHOWN, UNUSUAL, Outlying, Pair, Suspects

MINIMUM_IMAGES = 8  # below this not even a median of held-out scores means anything
FEWEST_HELD_OUT = 20  # scores that a threshold is set by, unless that is all the images there are
FEWER = "; fewer will do where copies of them are learnt, too (augment)"
GOLDEN_TOLERANCE = 1e-3  # of the score's scale: wide enough for another device's rounding, narrow for any fault
PROOF_FRAMES = 6

Learner = Callable[[Tensor, int, Progress], nn.Module]


class Fitted(NamedTuple):
    """A network, and images' scores by one that had not seen them: by itself, or by a sibling fitted without them.

    Of a single image it is copies of it that are held out: `copies` is set, and the image's place stands for each.
    `maps` are those of the highest scores, by the image's place.
    """

    network: Network
    held_out: tuple[int, ...]
    held_out_scores: tuple[float, ...]
    maps: Mapping[int, Maps]
    copies: bool


class Fit(NamedTuple):
    """Good images and what was learnt from them, by detector options that have their defaults filled in."""

    detector: Detector
    options: BaseModel
    images: GoodImages
    fitted: Fitted
    suspects: Suspects
    seconds: float
    processor_s: float


def learn(options: TrainingOptions, progress: Progress, key: SigningKey, parent: Bundle | None) -> Path:
    """Fit, calibrate, export, prove and seal; see `inference.training.train`."""
    if options.output is None or not options.output.absolute().parent.is_dir():
        where = options.output.absolute().parent if options.output else "(none was named)"
        raise ConfigurationError(f"{options.output}: there is no folder {where} to write to")
    detector, detector_options, images, fitted, suspects, fit_s, fit_cpu_s = examine(options, progress, parent)
    earlier = parent.manifest.held_out_scores if parent else ()
    calibration = calibrate((*earlier, *fitted.held_out_scores), options.alpha, copies=fitted.copies)
    progress("export", 0, 1)
    model = to_onnx(fitted.network, images.channels)
    progress("export", 1, 1)
    golden = golden_frames(images, fitted)
    spread = np.linspace(0, len(images) - 1, PROOF_FRAMES).astype(int)
    proof = prove(model, fitted.network, images.channels, [*golden, *(images[int(i)] for i in spread)], progress)
    manifest = Manifest(
        name=options.name,
        detector=options.detector,
        options=detector_options.model_dump(mode="json"),
        channels=images.channels,
        pixel_format=(parent.manifest.pixel_format if parent else options.pixel_format)
        or PixelFormat.of(images.channels),
        frame_height_px=images.usual_shape_px[0],
        frame_width_px=images.usual_shape_px[1],
        map_height=proof.map_shape[0],
        map_width=proof.map_shape[1],
        images=len(images) + (parent.manifest.images if parent else 0),
        data_digest=images.digest,
        seed=options.seed,
        calibration=calibration,
        golden=tuple(
            Golden(score=score, tolerance=GOLDEN_TOLERANCE * proof.scale) for score in proof.scores[: len(golden)]
        ),
        metrics={"fit_s": round(fit_s, 3), "fit_cpu_s": round(fit_cpu_s, 3), "parity": proof.difference / proof.scale},
        licences=(*detector.licences, *([f"images: {options.data_licence}"] if options.data_licence else [])),
        versions={name: metadata.version(name) for name in ("numpy", "onnx", "onnxruntime", "torch")},
        created=datetime.now(UTC),
        held_out_scores=() if fitted.copies else (*earlier, *fitted.held_out_scores),
        outlying=tuple(one.path.name for one in suspects.outlying),
        alike=len(images.alike),
        left_out=options.left_out,
        parent=parent.digest if parent else None,
    )
    bundle.write(options.output, manifest, model, golden, key)
    return options.output


def examine(options: TrainingOptions, progress: Progress, parent: Bundle | None = None) -> Fit:
    """Read the good images and fit; look for suspects among them, and write the report of them if asked for."""
    detector, detector_options = detectors.load(options.detector, dict(options.options))
    state = parent and updating.check(detector, options.detector, detector_options.model_dump(mode="json"), parent)
    torch.set_num_threads(options.threads)
    start_ns, start_cpu_ns = time.monotonic_ns(), time.process_time_ns()
    images = GoodImages.read(
        options.images,
        _channels(options, parent),
        _fewest(options, detector, parent),
        progress,
        options.left_out,
        "" if options.augment or parent else FEWER,
    )
    fitted = fit(
        detector,
        images,
        options.folds or usual_folds(detector, len(images)),
        options.seed,
        progress,
        options.augment,
        state or None,
        parent.manifest.pixel_format if parent else options.pixel_format,
    )
    fit_s, fit_cpu_s = (time.monotonic_ns() - start_ns) / 1e9, (time.process_time_ns() - start_cpu_ns) / 1e9
    suspects = find_suspects(images, fitted, options.alpha, parent.manifest.held_out_scores if parent else ())
    if options.report:
        suspicion.write(options.report, suspects, options.name, images.channels)
    return Fit(detector, detector_options, images, fitted, suspects, fit_s, fit_cpu_s)


def usual_folds(detector: Detector, images: int) -> int:
    """Return into how many parts images are held out where nobody says: a fifth of few is too few to go by.

    Of 34 images it is seven scores, and a threshold just above seven rejects one good part in eight; all of them are
    scored then, whatever the detector would take (CFA on papers: 64 % of the good ones rejected).
    """
    return detector.folds if images >= FEWEST_HELD_OUT * HELD_OUT_SHARE else CROSS_FIT


def find_suspects(images: GoodImages, fitted: Fitted, alpha: float, earlier: tuple[float, ...] = ()) -> Suspects:
    """Return the images whose held-out score lies too far out among those and `earlier` ones, and those alike."""
    scores = (*earlier, *fitted.held_out_scores)
    limit = None if fitted.copies else outlying_above(scores)
    order = sorted(zip(fitted.held_out_scores, fitted.held_out, strict=True), reverse=True)
    worst_first = [Outlying(images.paths[index], score, fitted.maps.get(index)) for score, index in order]
    far_out = sum(limit is not None and one.score > limit for one in worst_first)
    without = [score for score in scores if limit is None or score <= limit]
    return Suspects(
        images=len(images),
        checked=0 if fitted.copies else len(fitted.held_out),
        limit=limit,
        outlying=tuple(worst_first[:far_out]),
        unusual=() if fitted.copies else tuple(worst_first[far_out : far_out + UNUSUAL]),
        alike=tuple(Pair(images.paths[first], images.paths[second], like) for first, second, like in images.alike),
        review_above=calibrate(scores, alpha).review_above,
        review_above_without=calibrate(without, alpha).review_above,
    )


def fit(
    detector: Detector,
    images: GoodImages,
    wanted_folds: int,
    seed: int,
    progress: Progress,
    augment: Augmentation | None = None,
    state: Mapping[str, Tensor] | None = None,
    pixel_format: PixelFormat | None = None,
) -> Fitted:
    """Fit on all images, and cross-fit to score each image by a head that was fitted without it.

    With one fold a fifth of the images is held out, and the head that never sees it is the one that is kept. Features
    are computed once for each image, so that a fold costs a head alone. Copies that `augment` makes are learnt with
    their image and held out with it; only the image itself is scored, unless there is but one. With the `state` of an
    earlier head, each is learnt on from that. Raise InputError where a feature or score is no finite number.
    """
    with _seeded(seed):
        encoder = _encoder(detector, images, pixel_format)
    features = encode(encoder, images, progress, augment, seed)
    learner = _learner(detector, state)
    single = len(images) == 1 and state is None
    if single:
        features = features.transpose(0, 1)  # its copies take the place of images
    scores: dict[int, float] = {}
    maps: dict[int, Maps] = {}
    pairs = [] if single else [(pair.first, pair.second) for pair in images.alike]
    parts = folds(len(features), wanted_folds, seed, pairs)
    for fold, held_out in enumerate(parts):
        progress("calibrate", fold, len(parts))
        kept = torch.from_numpy(np.setdiff1d(np.arange(len(features)), held_out))
        with _seeded(seed):
            head = learner(features[kept].flatten(0, 1), seed, progress)
        found = _maps(head, features[torch.from_numpy(held_out), 0])
        scores |= dict(zip(held_out.tolist(), found.max(axis=(1, 2)).tolist(), strict=True))
        maps |= dict(zip(held_out.tolist(), found, strict=True))
        maps = {index: maps[index] for index in sorted(maps, key=lambda index: -scores[index])[:SHOWN]}
    progress("calibrate", len(parts), len(parts))
    if len(parts) > 1 or not len(kept):
        with _seeded(seed):
            head = learner(features.flatten(0, 1), seed, progress)
    held = sorted(scores)
    if not np.isfinite(list(scores.values())).all():
        odd = next(index for index in held if not np.isfinite(scores[index]))
        raise InputError(f"{images.paths[0 if single else odd]}: its score is no finite number")
    return Fitted(
        Network(encoder, head),
        tuple(0 if single else index for index in held),
        tuple(scores[index] for index in held),
        {} if single else maps,
        single,
    )


def _encoder(detector: Detector, images: GoodImages, pixel_format: PixelFormat | None) -> nn.Module:
    """Return the detector's frozen half, behind the decoding of a mosaic where the images are ones."""
    if pixel_format is None or pixel_format not in MOSAICS:
        return detector.encoder(images.format)
    return nn.Sequential(Demosaic(pixel_format), detector.encoder(images.format._replace(channels=3)))


def _learner(detector: Detector, state: Mapping[str, Tensor] | None) -> Learner:
    if state is None:
        return detector.fit
    assert isinstance(detector, updating.Updatable)  # noqa: S101 - `updating.check` gave the state
    return partial(detector.update, state)


def _channels(options: TrainingOptions, parent: Bundle | None) -> Channels | None:
    if parent:
        return parent.manifest.channels
    if options.pixel_format:
        return 3 if options.pixel_format == PixelFormat.BGR8 else 1
    return options.channels


def _fewest(options: TrainingOptions, detector: Detector, parent: Bundle | None) -> int:
    """Return how many images it takes."""
    if parent:
        return 1
    return detector.minimum_images if options.augment else max(MINIMUM_IMAGES, detector.minimum_images)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Begin torch's own chance anew, as layers draw their first weights from it, and leave the caller's as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def encode(
    encoder: nn.Module, images: GoodImages, progress: Progress, augment: Augmentation | None = None, seed: int = 0
) -> Tensor:
    """Return the features (N, 1 + copies, ...) of all images and of their copies.

    They are computed one by one: images may differ in size.
    """
    encoder.eval()
    features: Tensor | None = None
    with torch.inference_mode():
        for index in range(len(images)):
            frame = images[index]
            for place, view in enumerate((frame, *(augmented(frame, augment, seed + index) if augment else ()))):
                one = encoder(torch.from_numpy(view)[None])[0]
                if not torch.isfinite(one).all():
                    raise InputError(f"{images.paths[index]}: its features are no finite numbers")
                if features is None:
                    features = torch.empty(
                        (len(images), 1 + (augment.copies if augment else 0), *one.shape), dtype=one.dtype
                    )
                features[index, place] = one
            progress("features", index + 1, len(images))
    assert features is not None  # noqa: S101 - GoodImages holds at least one
    return features.clone()  # out of inference mode, so that a head may learn from them by gradient


def golden_frames(images: GoodImages, fitted: Fitted) -> tuple[Frame, ...]:
    """Return three frames that span the scores: the most usual part, the least usual, and a damaged copy of it."""
    order = np.argsort(fitted.held_out_scores, kind="stable")
    usual, odd = (images[fitted.held_out[int(place)]] for place in (order[len(order) // 2], order[-1]))
    damaged = odd.copy()
    height_px, width_px = odd.shape[:2]
    centre = np.s_[height_px * 3 // 8 : height_px * 5 // 8 + 1, width_px * 3 // 8 : width_px * 5 // 8 + 1]
    damaged[centre] = 255 - damaged[centre]
    return usual, odd, damaged


def _maps(head: nn.Module, features: Tensor) -> Maps:
    """Return the anomaly maps (N, h, w) of features (N, ...)."""
    head.eval()
    with torch.inference_mode():
        return torch.cat([head(one[None]) for one in features]).numpy()
