"""PatchCore on the MVTec AD transistor: the figures of docs/performance.md, within their noise."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import Bundle
from inference.engine import Engine
from inference.images import read_image
from inference.keys import SigningKey, TrustStore
from inference.training import Evaluation, TrainingOptions, evaluate, train

DATA = Path(os.environ.get("ANDON_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (DATA / "transistor").is_dir(), reason=f"no transistor images in {DATA} (set ANDON_DATA)"),
]


@pytest.fixture(scope="module")
def transistor(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("transistor")
    output = folder / "transistor.andon"
    train(
        TrainingOptions(images=DATA / "transistor", output=output, name="transistor", folds=2),
        key=SigningKey.load(folder),
    )
    return Bundle.open(output, TrustStore.load(folder))


@pytest.fixture(scope="module")
def judged(transistor: Bundle) -> Evaluation:
    return evaluate(transistor, DATA / "transistor")


def test_transistors_are_told_apart(judged: Evaluation) -> None:
    assert judged.image_auroc is not None
    assert judged.image_auroc >= 0.995
    assert judged.pixel_auroc is not None
    assert judged.pixel_auroc >= 0.97


def test_the_calibrated_threshold_keeps_what_it_states(transistor: Bundle, judged: Evaluation) -> None:
    assert transistor.manifest.calibration.more_images == 473 - 213
    assert judged.false_rejects.low <= transistor.manifest.calibration.alpha_upper
    assert judged.escapes.rate <= 0.15


def test_a_batch_of_real_frames_scores_like_each_alone(transistor: Bundle, judged: Evaluation) -> None:
    some = judged.images[::7][:16]
    scores, _ = Engine(transistor).infer(np.stack([read_image(image.path, 3) for image in some]))
    alone = np.array([image.score for image in some])
    assert np.abs(scores - alone).max() <= 1e-4 * alone.max()
