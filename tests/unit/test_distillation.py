"""Detectors that learn to foretell a teacher's features: STFPM and reverse distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.detectors import reverse_distillation, stfpm
from inference.training import backbones
from inference.training.detector import FrameFormat, Network
from inference.training.export import prove, to_onnx
from inference.training.progress import unheard
from inference.training.pyramid import Fusion, Teacher, distances

LITE0 = "efficientnet-lite0"


def images(count: int, side: int = 64) -> Tensor:
    """Return stripes (N, 3, side, side) in two colours, shifted from image to image."""
    place = torch.arange(side)
    shift = torch.arange(count)[:, None, None, None] % 4
    stripes = (((place + shift) // 8) % 2).float().expand(count, 1, side, side)
    return stripes * torch.tensor([160.0, 90.0, 30.0])[:, None, None] + 40.0


def test_a_student_that_is_its_teacher_sees_nothing_anywhere() -> None:
    backbone = backbones.load(LITE0, (2, 4), 64)
    teacher = Teacher(backbone, images(4))
    head = stfpm.StudentTeacher(teacher, teacher, [16, 8])  # type: ignore[arg-type] # as a backbone it is called alike
    assert torch.equal(head(images(2) + 20.0), torch.zeros(2, 16, 16))


def test_a_teachers_channels_are_standardised_by_the_good_images() -> None:
    shown = images(6)
    for level in Teacher(backbones.load(LITE0, (2, 4), 64), shown).lessons(shown):
        assert torch.allclose(level.mean(dim=(0, 2, 3)), torch.zeros(level.shape[1]), atol=1e-4)
        spread = level.std(dim=(0, 2, 3))
        assert ((spread - 1).abs() < 1e-3).all()


def test_distances_are_one_less_the_cosine() -> None:
    one, other = torch.randn(2, 2, 5, 3, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = 1 - torch.cosine_similarity(one, other)
    assert torch.allclose(distances([one], [other])[0], expected, atol=1e-6)
    assert torch.equal(distances([one], [one * 2.0])[0], torch.zeros(2, 3, 3))


def test_maps_of_several_scales_are_fused_where_they_belong() -> None:
    fine, coarse = torch.zeros(1, 8, 8), torch.zeros(1, 4, 4)
    fine[0, 6, 2], coarse[0, 3, 1] = 1.0, 1.0
    fused = Fusion([8, 4])([fine, coarse])
    assert fused.shape == (1, 8, 8)
    assert fused.argmax() == 6 * 8 + 2
    assert fused[0, :4].max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("module", [stfpm, reverse_distillation])
def test_what_was_not_learnt_stands_out_in_torch_and_in_the_graph(module: object) -> None:
    detector = module.Detector(module.Options(size_px=64, epochs=30, batch=4))  # type: ignore[attr-defined]
    told = []
    torch.manual_seed(0)
    head = detector.fit(images(12), 0, lambda *at: told.append(at))
    assert told[-1] == ("fit", 90, 90)
    with torch.inference_mode():
        spoilt = images(2)
        spoilt[1, :, 40:52, 8:20] = torch.tensor([40.0, 130.0, 200.0])[:, None, None]
        good, bad = head(spoilt)
    assert bad.max() > 1.5 * good.max()
    row, column = divmod(int(bad.argmax()), bad.shape[1])
    assert abs((row + 0.5) / len(bad) - 46 / 64) < 0.15
    assert abs((column + 0.5) / len(bad) - 14 / 64) < 0.15
    network = Network(detector.encoder(FrameFormat(3, 64, 64)), head)
    frames = [np.ascontiguousarray(image.permute(1, 2, 0).numpy().astype(np.uint8)) for image in spoilt]
    proof = prove(to_onnx(network, 3), network, 3, [*frames, frames[1][:50, :41]], unheard)
    assert proof.scores[:2] == pytest.approx([float(good.max()), float(bad.max())], rel=1e-3)


@pytest.mark.parametrize(("name", "size_px"), [("resnet18", 64), ("dinov2-vits14", 56), (LITE0, 80)])
def test_a_decoder_fits_any_backbone(name: str, size_px: int) -> None:
    levels = backbones.build(name, reverse_distillation.Options(backbone=name).chosen_taps, size_px)(
        torch.zeros(2, 3, size_px, size_px)
    )
    sides = [level.shape[-1] for level in levels]
    restored = reverse_distillation.Restoring([level.shape[1] for level in levels], sides)(levels)
    assert [level.shape for level in restored] == [level.shape for level in levels]
