"""From a folder of good images to a sealed bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from config.errors import ConfigurationError, InputError
from inference import bundle
from inference.bundle import Golden, Manifest
from inference.images import Frame
from inference.keys import SigningKey
from inference.training import detector as detectors
from inference.training.calibration import calibrate, folds
from inference.training.detector import Detector, Network
from inference.training.export import prove, to_onnx
from inference.training.good_images import GoodImages
from inference.training.options import TrainingOptions
from inference.training.progress import Progress

MINIMUM_IMAGES = 8  # below this not even a median of held-out scores means anything
GOLDEN_TOLERANCE = 1e-3  # of the score's scale: wide enough for another device's rounding, narrow for any fault
PROOF_FRAMES = 6


class Fitted(NamedTuple):
    """A network, and images' scores by one that had not seen them: by itself, or by a sibling fitted without them."""

    network: Network
    held_out: tuple[int, ...]
    held_out_scores: tuple[float, ...]


def learn(options: TrainingOptions, progress: Progress, key: SigningKey) -> Path:
    """Fit, calibrate, export, prove and seal; see `inference.training.train`."""
    if not options.output.absolute().parent.is_dir():
        raise ConfigurationError(f"{options.output}: there is no folder {options.output.absolute().parent} to write to")
    detector, detector_options = detectors.load(options.detector, dict(options.options))
    torch.set_num_threads(options.threads)
    start_ns = time.monotonic_ns()
    images = GoodImages.read(options.images, options.channels, max(MINIMUM_IMAGES, detector.minimum_images), progress)
    fitted = fit(detector, images, options.folds or detector.folds, options.seed, progress)
    calibration = calibrate(fitted.held_out_scores, options.alpha)
    fit_s = (time.monotonic_ns() - start_ns) / 1e9
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
        frame_height_px=images.usual_shape_px[0],
        frame_width_px=images.usual_shape_px[1],
        map_height=proof.map_shape[0],
        map_width=proof.map_shape[1],
        images=len(images),
        data_digest=images.digest,
        seed=options.seed,
        calibration=calibration,
        golden=tuple(
            Golden(score=score, tolerance=GOLDEN_TOLERANCE * proof.scale) for score in proof.scores[: len(golden)]
        ),
        metrics={"fit_s": round(fit_s, 3), "parity": proof.difference / proof.scale},
        licences=(*detector.licences, *([f"images: {options.data_licence}"] if options.data_licence else [])),
        versions={name: metadata.version(name) for name in ("numpy", "onnx", "onnxruntime", "torch")},
        created=datetime.now(UTC),
    )
    bundle.write(options.output, manifest, model, golden, key)
    return options.output


def fit(detector: Detector, images: GoodImages, wanted_folds: int, seed: int, progress: Progress) -> Fitted:
    """Fit on all images, and cross-fit to score each image by a head that was fitted without it.

    With one fold a fifth of the images is held out, and the head that never sees it is the one that is kept. Features
    are computed once for each image, so that a fold costs a head alone. Raise InputError where a feature or score is
    no finite number.
    """
    with _seeded(seed):
        encoder = detector.encoder(images.format)
    features = encode(encoder, images, progress)
    scores: dict[int, float] = {}
    parts = folds(len(images), wanted_folds, seed)
    for fold, held_out in enumerate(parts):
        progress("calibrate", fold, len(parts))
        kept = torch.from_numpy(np.setdiff1d(np.arange(len(images)), held_out))
        with _seeded(seed):
            head = detector.fit(features[kept], seed, progress)
        found = _scores(head, features[torch.from_numpy(held_out)])
        scores |= dict(zip(held_out.tolist(), found.tolist(), strict=True))
    progress("calibrate", len(parts), len(parts))
    if len(parts) > 1:
        with _seeded(seed):
            head = detector.fit(features, seed, progress)
    held = sorted(scores)
    return Fitted(Network(encoder, head), tuple(held), tuple(scores[index] for index in held))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Begin torch's own chance anew, as layers draw their first weights from it, and leave the caller's as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def encode(encoder: nn.Module, images: GoodImages, progress: Progress) -> Tensor:
    """Return the features (N, ...) of all images, computed one by one: they may differ in size."""
    encoder.eval()
    features: Tensor | None = None
    with torch.inference_mode():
        for index in range(len(images)):
            one = encoder(torch.from_numpy(images[index])[None])[0]
            if not torch.isfinite(one).all():
                raise InputError(f"{images.paths[index]}: its features are no finite numbers")
            if features is None:
                features = torch.empty((len(images), *one.shape), dtype=one.dtype)
            features[index] = one
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


def _scores(head: nn.Module, features: Tensor) -> np.ndarray:
    head.eval()
    with torch.inference_mode():
        maps = torch.cat([head(one[None]) for one in features])
    return maps.amax(dim=(1, 2)).numpy()
