from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.detectors.patchcore import Detector, NearestNeighbour, Options
from inference.training import backbones
from inference.training.backbones.layers import rounded
from inference.training.detector import FrameFormat
from inference.training.features import EvenLight, Grid

LITE0 = "efficientnet-lite0"


def bank_and_features(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5, 0.2])  # so that there are axes
    bank = rounded(torch.randn(60, 6, generator=generator) * spread)
    return bank, torch.randn(4, 3, 5, 6, generator=generator) * spread


def test_distances_are_those_to_the_nearest_member_along_the_axes_and_to_all_of_them_beside() -> None:
    bank, features = bank_and_features(0)
    centred = bank - bank.mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:3].T
    vectors = features.reshape(-1, 6) - bank.mean(dim=0)
    along = torch.cdist(vectors @ axes, centred @ axes).amin(dim=1)
    beside = torch.linalg.vector_norm(vectors - vectors @ axes @ axes.T, dim=1)
    expected = torch.hypot(along, beside).reshape(4, 3, 5)
    assert torch.allclose(NearestNeighbour(bank)(features), expected, atol=5e-3)  # half precision in the bank


def test_where_the_bank_lies_along_the_axes_it_is_the_distance_to_the_nearest_member() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(152, 40, generator=generator)).Q
    bank = rounded(torch.randn(300, 40, generator=generator) @ directions.T * 8.0 + 100.0)
    features = torch.randn(2, 7, 7, 152, generator=generator) + 100.0
    exact = torch.cdist(features.reshape(-1, 152), bank).amin(dim=1).reshape(2, 7, 7)
    assert torch.allclose(NearestNeighbour(bank)(features), exact, rtol=2e-3)


def test_features_far_from_the_origin_are_told_apart() -> None:
    bank, features = bank_and_features(0)
    near, far = NearestNeighbour(bank)(features), NearestNeighbour(bank + 1000.0)(features + 1000.0)
    assert torch.allclose(near, far, atol=1e-2)


def test_the_score_is_reweighted_as_in_the_paper() -> None:
    bank, features = bank_and_features(1)
    plain, weighted = NearestNeighbour(bank)(features), NearestNeighbour(bank, neighbours=5)(features)
    for image in range(4):
        patches = features[image].reshape(-1, 6).numpy().astype(np.float64)
        distances = np.linalg.norm(patches[:, None] - bank.numpy()[None], axis=2)
        worst = int(plain[image].argmax())
        nearest = distances[worst].argmin()
        around = np.argsort(np.linalg.norm(bank.numpy() - bank.numpy()[nearest], axis=1))[:5]
        weight = 1 - np.exp(distances[worst, nearest]) / np.exp(distances[worst, around]).sum()
        assert torch.allclose(weighted[image], plain[image] * weight, rtol=2e-3)


def test_a_bank_smaller_than_the_neighbours_asked_for_does() -> None:
    features = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    assert NearestNeighbour(features.reshape(-1, 3)[:2], neighbours=9)(features).shape == (1, 2, 2)


def test_patch_features_lie_on_the_grid_and_know_their_neighbours() -> None:
    patches = Grid(backbones.load(LITE0, (2, 4), 64), 64, 16)
    images = torch.full((1, 3, 64, 64), 100.0)
    changed = images.clone()
    changed[:, :, 28:36, 28:36] = 255.0
    features = patches(images)
    assert features.shape == (1, 16, 16, 24 + 40)
    moved = (patches(changed) - features).abs().sum(dim=3)[0]
    assert moved.argmax().item() // 16 in {7, 8}
    assert moved[0, 0] < moved.max() / 100


@pytest.mark.parametrize("stride_px", [4, 8, 16])
def test_the_grid_is_as_coarse_as_asked_for(stride_px: int) -> None:
    """Blocks that are finer are averaged, blocks that are coarser are enlarged: a mean stays what it was."""
    patches = Grid(backbones.load(LITE0, (2, 4, 10), 96), 96, 96 // stride_px)
    images = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    features = patches(images)
    assert features.shape == (1, 96 // stride_px, 96 // stride_px, 24 + 40 + 112)
    finest = Grid(patches.backbone, 96, 24)(images)
    assert torch.allclose(features[..., :24].mean(), finest[..., :24].mean(), atol=1e-4)


def test_features_know_as_many_neighbours_as_asked_for() -> None:
    backbone = backbones.load(LITE0, (4,), 96)
    images = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    alone, square = (Grid(backbone, 96, 12, around)(images)[0] for around in (1, 3))
    assert torch.allclose(alone, backbone(images)[0][0].permute(1, 2, 0))
    assert torch.allclose(square[5, 5], alone[4:7, 4:7].mean(dim=(0, 1)), atol=1e-4)


def test_a_grey_frame_is_a_colourless_one() -> None:
    detector = Detector(Options(size_px=64))
    grey = torch.randint(0, 256, (1, 70, 80, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    alone = detector.encoder(FrameFormat(1, 70, 80))(grey)
    assert torch.allclose(alone, detector.encoder(FrameFormat(3, 70, 80))(grey.expand(-1, -1, -1, 3)), atol=1e-4)


def test_even_light_takes_out_what_moves_or_stretches_a_whole_image() -> None:
    features = torch.randn(3, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    even = EvenLight()(features)
    assert torch.allclose(even.mean(dim=(1, 2)), torch.zeros(3, 4), atol=1e-6)
    assert torch.allclose(even.std(dim=(1, 2), correction=0), torch.ones(3, 4), atol=0.02)
    brighter = features * torch.tensor([0.5, 2.0, 3.0, 4.0]) + torch.tensor([9.0, -3.0, 0.0, 1.0])
    assert torch.allclose(EvenLight()(brighter), even, atol=0.03)
    assert torch.equal(EvenLight()(torch.ones(1, 6, 5, 4)), torch.zeros(1, 6, 5, 4))
