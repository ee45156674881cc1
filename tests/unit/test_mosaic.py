from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from config.messages import PixelFormat
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, train
from inference.training.mosaic import MOSAICS, Demosaic

OPENCV = {
    PixelFormat.BAYER_RGGB8: cv2.COLOR_BayerRGGB2BGR,
    PixelFormat.BAYER_GRBG8: cv2.COLOR_BayerGRBG2BGR,
    PixelFormat.BAYER_GBRG8: cv2.COLOR_BayerGBRG2BGR,
    PixelFormat.BAYER_BGGR8: cv2.COLOR_BayerBGGR2BGR,
}


def mosaic_of(bgr: np.ndarray, pattern: PixelFormat) -> np.ndarray:
    """Return what a sensor behind this pattern sees of a picture, (H, W, 1)."""
    letters = pattern.removeprefix("bayer_")[:4]
    seen = np.empty((*bgr.shape[:2], 1), np.uint8)
    for place, letter in enumerate(letters):
        row, column = divmod(place, 2)
        seen[row::2, column::2, 0] = bgr[row::2, column::2, "bgr".index(letter)]
    return seen


def test_every_pattern_is_known() -> None:
    assert MOSAICS == OPENCV.keys() == {one for one in PixelFormat if one.startswith("bayer")}


@pytest.mark.parametrize("pattern", sorted(OPENCV))
@pytest.mark.parametrize("size_px", [(24, 32), (25, 31), (2, 2)])
def test_colours_are_those_of_opencv(pattern: PixelFormat, size_px: tuple[int, int]) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (2, *size_px, 1), np.uint8)
    ours = Demosaic(pattern)(torch.from_numpy(frames)).numpy()
    assert (ours.shape, ours.dtype) == ((2, *size_px, 3), np.uint8)
    for frame, bgr in zip(frames, ours, strict=True):
        theirs = cv2.cvtColor(frame, OPENCV[pattern])
        inner = np.s_[1:-1, 1:-1]  # at the edge OpenCV repeats what lies inside
        assert np.abs(bgr[inner].astype(int) - theirs[inner]).max(initial=0) <= 1  # quarters are rounded once here


@pytest.mark.parametrize("pattern", sorted(OPENCV))
def test_a_plain_colour_stays_what_it_was_to_the_very_edge(pattern: PixelFormat) -> None:
    bgr = np.full((6, 7, 3), (30, 120, 250), np.uint8)
    assert np.array_equal(Demosaic(pattern)(torch.from_numpy(mosaic_of(bgr, pattern)[None])).numpy()[0], bgr)


def test_a_bundle_takes_the_mosaic_as_the_camera_gives_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pattern = PixelFormat.BAYER_GRBG8
    (tmp_path / "good").mkdir()

    def part(*, red: bool = False) -> np.ndarray:
        bgr = np.full((64, 80, 3), (90, 100, 110), np.uint8)
        cv2.circle(bgr, (40, 32), 15, (60, 160, 60), -1)
        if red:
            cv2.circle(bgr, (44, 30), 5, (60, 60, 160), -1)  # as bright as the green around it, nearly
        return mosaic_of(np.clip(bgr + rng.normal(0, 3, bgr.shape), 0, 255).astype(np.uint8), pattern)

    for number in range(8):
        cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), part())
    options = TrainingOptions(
        images=tmp_path / "good",
        output=tmp_path / "x.andon",
        name="x",
        options={"size_px": 64, "bank": 200},
        pixel_format=pattern,
        folds=2,
    )
    train(options, key=SigningKey.load(tmp_path))
    bundle = Bundle.open(options.output, TrustStore.load(tmp_path))
    assert (bundle.manifest.channels, bundle.manifest.pixel_format) == (1, pattern)
    good, red = Engine(bundle).infer(np.stack([part(), part(red=True)]))[0]
    assert red > 1.5 * good


def test_a_mosaic_is_not_moved(tmp_path: Path) -> None:
    for change in ({"shift_px": 1}, {"flip": "both"}, {"rotate_deg": 1.0}):
        with pytest.raises(ValidationError, match="brightness alone"):
            TrainingOptions(images=tmp_path, name="x", pixel_format="bayer_rggb8", augment=change)
    TrainingOptions(images=tmp_path, name="x", pixel_format="bayer_rggb8", augment={"brightness_percent": 5})
