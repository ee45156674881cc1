"""Each classical operator against OpenCV, or against plain loops from its definition where OpenCV has none."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from config.errors import ConfigurationError
from inference.detectors.classical import Deviations
from inference.images import Frame
from inference.training import detector
from inference.training.detector import FrameFormat, Network
from inference.training.export import prove, to_onnx
from inference.training.operators.edges import Laplacian, Sobel
from inference.training.operators.intensity import Histogram, Otsu, threshold
from inference.training.operators.morphology import BlackHat, TopHat
from inference.training.operators.texture import RING, LocalBinaryPattern
from inference.training.progress import unheard

ALL: list[JsonValue] = [
    {"operator": name} for name in ("sobel", "laplacian", "top_hat", "black_hat", "lbp", "histogram", "otsu")
]


def image(seed: int = 0, height_px: int = 48, width_px: int = 64) -> Frame:
    """Return grey levels (H, W): a bright blob with noise on dark ground."""
    rng = np.random.default_rng(seed)
    frame = np.full((height_px, width_px), 70, np.uint8)
    cv2.circle(frame, (width_px // 2, height_px // 2), height_px // 3, 180, -1)
    return np.clip(frame + rng.normal(0, 12, frame.shape), 0, 255).astype(np.uint8)


def tensor(frame: Frame) -> Tensor:
    return torch.from_numpy(frame.astype(np.float32))[None, None]


def test_sobel() -> None:
    frame = image()
    dx, dy = cv2.Sobel(frame, cv2.CV_64F, 1, 0), cv2.Sobel(frame, cv2.CV_64F, 0, 1)
    np.testing.assert_allclose(Sobel().respond(tensor(frame))[0, 0], (abs(dx) + abs(dy)) / 1020, atol=1e-6)


def test_laplacian() -> None:
    expected = np.abs(cv2.Laplacian(image(), cv2.CV_64F, ksize=1)) / 1020
    np.testing.assert_allclose(Laplacian().respond(tensor(image()))[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("radius_px", [1, 4, 15])
def test_hats(radius_px: int) -> None:
    square = np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
    for operator, kind in (
        (TopHat(radius_px=radius_px), cv2.MORPH_TOPHAT),
        (BlackHat(radius_px=radius_px), cv2.MORPH_BLACKHAT),
    ):
        expected = cv2.morphologyEx(image(), kind, square) / 255
        np.testing.assert_allclose(operator.respond(tensor(image()))[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("radius_px", [1, 3])
def test_lbp_on_whole_grey_levels_is_the_plain_pattern(radius_px: int) -> None:
    frame = image()
    wide = np.pad(frame.astype(int), radius_px, mode="reflect")
    got = LocalBinaryPattern(radius_px=radius_px).respond(tensor(frame))[0]
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            around = [wide[y + (1 + dy) * radius_px, x + (1 + dx) * radius_px] for dy, dx in RING]
            bits = [int(value >= frame[y, x]) for value in around]
            changes = sum(one != other for one, other in pairwise([*bits, bits[0]]))
            assert int(got[:, y, x].argmax()) == (sum(bits) if changes <= 2 else 9)
            assert float(got[:, y, x].max()) == 1.0


def test_histogram_shares_each_pixel_between_two_levels() -> None:
    shares = Histogram(levels=6).respond(tensor(image()))
    np.testing.assert_allclose(shares.sum(dim=1), 1.0, atol=1e-5)
    means = (shares * torch.arange(6)[None, :, None, None]).sum(dim=1) * 51  # levels lie 51 grey levels apart
    np.testing.assert_allclose(means[0], image(), atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_otsus_threshold_parts_as_well_as_opencvs(seed: int) -> None:
    frame = image(seed, 96, 128)
    limit, _ = cv2.threshold(frame, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    ours = float(threshold(tensor(frame)))
    assert np.mean((frame > limit) != (frame > ours)) < 0.01


def test_an_image_of_one_grey_level_has_finite_responses() -> None:
    for level in (0, 128, 255):
        assert torch.isfinite(Otsu().respond(torch.full((1, 1, 16, 16), float(level)))).all()


def test_every_operator_scores_alike_in_torch_and_in_the_graph() -> None:
    built = detector.load("classical", {"operators": ALL, "side_px": 96})[0]
    frames = [image(seed, *size_px)[:, :, None] for seed, size_px in enumerate([(48, 64), (31, 517), (200, 133)])]
    encoder = built.encoder(FrameFormat(1, 48, 64))
    with torch.inference_mode():
        good = torch.cat([encoder(torch.from_numpy(image(seed)[None, :, :, None])) for seed in range(8)])
        network = Network(encoder, built.fit(good, 0, unheard))
    assert len(prove(to_onnx(network, 1), network, 1, frames, unheard).scores) == len(frames)


def test_the_worst_response_places_the_map() -> None:
    head = Deviations(torch.zeros(2, 3, 2), torch.tensor([1.0, 10.0]).expand(2, 3, 2))
    features = torch.zeros(1, 2, 3, 2)
    features[0, 0, 1], features[0, 1, 2] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, -0.5])
    assert head(features)[0].tolist() == [[0.0, 3.0, 0.0], [0.0, 0.0, 5.0]]


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ([], "operators"),
        ([{"operator": "magic"}], "operators"),
        ([{"operator": "top_hat", "radius_px": 0}], "radius_px"),
        ([{"operator": "sobel", "code": "print()"}], "code"),
    ],
)
def test_operators_are_data_that_is_checked(operators: list[JsonValue], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        detector.load("classical", {"operators": operators})
