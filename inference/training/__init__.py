"""Fit, calibrate, export and evaluate: with the detectors, the only place that imports torch."""

from __future__ import annotations

from pathlib import Path

from config.errors import MissingExtraError
from inference.bundle import Bundle
from inference.keys import SigningKey
from inference.training.evaluation import Evaluation, Thresholds, evaluate
from inference.training.options import Augmentation, TrainingOptions
from inference.training.progress import Progress, unheard
from inference.training.suspects import Suspects

__all__ = [
    "Augmentation",
    "Evaluation",
    "Progress",
    "Suspects",
    "Thresholds",
    "TrainingOptions",
    "check",
    "evaluate",
    "train",
]


def train(
    options: TrainingOptions,
    progress: Progress = unheard,
    key: SigningKey | None = None,
    parent: Bundle | None = None,
) -> Path:
    """Learn a detector from good images and seal it with `key` (this machine's own if None); return the bundle's path.

    With a `parent` the images are new ones, which are learnt beside what that bundle has learnt. The bundle is there
    whole or not at all. Raise InputError for images that cannot be used (each by name), ConfigurationError for options
    or keys, MissingExtraError without the `train` extra, and BundleError where the exported graph does not give the
    scores that were calibrated, or where the parent does not hold what it takes.
    """
    try:
        from inference.training.learning import learn  # noqa: PLC0415 - torch belongs to an extra
    except ImportError as error:
        raise MissingExtraError("training", "train", error) from error
    return learn(options, progress, key or SigningKey.load(), parent)


def check(options: TrainingOptions, progress: Progress = unheard) -> Suspects:
    """Fit as `train` does, write no bundle, and return the good images that a person should look at first.

    Raises as `train` does.
    """
    try:
        from inference.training.learning import examine  # noqa: PLC0415 - torch belongs to an extra
    except ImportError as error:
        raise MissingExtraError("training", "train", error) from error
    return examine(options, progress).suspects
