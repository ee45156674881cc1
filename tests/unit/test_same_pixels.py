"""At a camera's resolution and of the finest texture, a frame scores alike wherever it is scored.

Fine texture is what tells resampling ways apart: Anomalib trains with antialiasing and exports without, and its
exported PatchCore rejected 20 of 20 good parts of 1024 px where its trainer rejected one.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inference import bundle
from inference.bundle import Golden, Manifest
from inference.engine import Engine
from inference.images import Frame
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, evaluate
from inference.training.calibration import calibrate
from inference.training.export import to_onnx
from inference.training.learning import examine
from inference.training.progress import unheard

HEIGHT_PX, WIDTH_PX = 2048, 2448
IMAGES, FRESH = 10, 4


def noise(seed: int) -> Frame:
    """Return a part (H, W) of a coarse pattern, with a grain of one pixel that is as strong as a byte can hold."""
    random = np.random.default_rng(seed)
    frame = random.integers(0, 256, (HEIGHT_PX, WIDTH_PX), np.uint8)
    cv2.circle(frame, (WIDTH_PX // 2, HEIGHT_PX // 2), 700, 60, 150)
    return frame


def test_training_graph_evaluation_and_batches_agree_and_no_good_part_is_rejected(
    tmp_path: Path, key: SigningKey, trust: TrustStore, brightness_manifest: Manifest
) -> None:
    for folder, seeds in (("train", range(IMAGES)), ("test", range(IMAGES, IMAGES + FRESH))):
        (tmp_path / folder / "good").mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(tmp_path / folder / "good" / f"{seed:02}.bmp"), noise(seed))
    options = {"size_px": 96, "bank": 300}
    fitted = examine(TrainingOptions(images=tmp_path, name="noise", options=options, threads=2), unheard).fitted
    frames = np.stack([noise(seed)[:, :, None] for seed in range(IMAGES, IMAGES + FRESH)])
    with torch.inference_mode():
        in_training = np.array([float(fitted.network(torch.from_numpy(frame[None]))[0]) for frame in frames])
    calibration = calibrate(fitted.held_out_scores, 0.01)
    golden = Golden(score=in_training[0], tolerance=1e-4 * in_training[0])
    changes = {"calibration": calibration, "golden": (golden,), "map_height": 12, "map_width": 12}
    manifest = brightness_manifest.model_copy(update=changes)
    bundle.write(tmp_path / "x.andon", manifest, to_onnx(fitted.network, 1), (frames[0],), key)

    opened = bundle.Bundle.open(tmp_path / "x.andon", trust)
    engine = Engine(opened, threads=2)
    judged = evaluate(opened, tmp_path, threads=2)
    assert engine.infer(frames)[0] == pytest.approx(in_training, rel=1e-4), "as a worker stacks what waits"
    assert [image.score for image in judged.images] == pytest.approx(in_training, rel=1e-4)
    assert judged.good_rejected.events == 0
    picked = np.ascontiguousarray(frames[:, ::2, ::2])  # as `Resize` without antialiasing takes them
    assert engine.infer(picked)[0].min() > calibration.reject_above, "another way to resample would have shown"
