"""A bundle for a folder of images: the one that was named, the one fitted before, or one fitted now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from config import dataset
from config.errors import BundleError, ConfigurationError
from deploy import stations
from deploy.logbook import ScreenProgress
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore
from inference.training import TrainingOptions, train

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from config.home import Home
    from deploy.logbook import Logbook

_TIMED_RUNS = 3


def obtain_bundle(
    home: Home, images: Path, named: Path | None, keys: Sequence[Path], logbook: Logbook
) -> tuple[Path, Bundle]:
    """Return path and content of the bundle `named`, or of one fitted on `images` and kept.

    Raise ConfigurationError if the folder is none to learn from, MissingExtraError where torch is not installed.
    """
    if not images.is_dir():
        raise ConfigurationError(f"{images}: no such folder of images")
    if named is not None:
        return named, Bundle.open(named, TrustStore.load(extra=keys))
    if not (images / "train" / "good").is_dir():
        raise ConfigurationError(
            f"{images}: has no train/good to learn from: name a trained bundle with --bundle, or put good images there"
        )
    good = dataset.training_images(images)
    path = home.path / "bundles" / f"{images.resolve().name}-{stations.digest_of(good)}.andon"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            return path, Bundle.open(path, TrustStore.load(extra=keys))
        except BundleError as error:
            logbook.say(f"{error}: fitting again", "warning")
    logbook.say(f"fitting a bundle on {len(good)} good images of {images}")
    train(TrainingOptions(images=images, output=path, name=images.resolve().name), ScreenProgress(logbook.show))
    return path, Bundle.open(path, TrustStore.load(extra=keys))


def inference_s(bundle: Bundle) -> float:
    """Measure how long one frame takes on one thread of this machine."""
    engine = Engine(bundle)
    frame = bundle.golden_frames[0][None]
    engine.infer(frame)
    began_ns = time.monotonic_ns()
    for _ in range(_TIMED_RUNS):
        engine.infer(frame)
    return (time.monotonic_ns() - began_ns) / 1e9 / _TIMED_RUNS
