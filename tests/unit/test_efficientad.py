from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference.detectors.efficientad import Apart, Detector, Options, PatchNetwork, Pupils, hardest, patched, recoloured


def images(count: int, side: int = 64) -> Tensor:
    return 255.0 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_maps_of_held_out_good_images_are_brought_to_one_scale() -> None:
    torch.manual_seed(0)
    head = Apart(PatchNetwork(6, 8), Pupils(6, 8, 64), images(10))
    with torch.inference_mode():
        maps = [one.flatten() for one in head.apart(images(10))]
        normal, scale = head.get_buffer("normal"), head.get_buffer("scale")
        for index, one in enumerate(maps):
            even = (one - normal[index]) * scale[index]
            assert even.quantile(0.9) == pytest.approx(0.0, abs=1e-4)
            assert even.quantile(0.995) == pytest.approx(0.1, abs=1e-4)
        assert head(images(3)).shape == (3, 16, 16)


def test_a_student_that_says_what_its_teacher_says_is_nowhere_apart() -> None:
    torch.manual_seed(0)
    teacher, pupils = PatchNetwork(6, 8), Pupils(6, 8, 64)
    state = {name: value for name, value in teacher.state_dict().items() if "answer" not in name}
    pupils.student.load_state_dict(state, strict=False)
    for name in ("weight", "bias"):
        pupils.student.answer.get_parameter(name).data[:6] = teacher.answer.get_parameter(name).data
    with torch.inference_mode():
        local, whole = Apart(teacher, pupils, images(4)).apart(images(2))
    assert local.max() < 1e-10
    assert whole.max() > 1e-6


def test_the_student_learns_from_the_hardest_hundredth() -> None:
    assert hardest(torch.arange(1000.0)) == torch.arange(990.0, 1000.0).mean()
    assert hardest(torch.tensor([1.0, 3.0])) == 3.0


def test_variations_stay_pictures_and_come_from_chance_alone() -> None:
    shown = images(5)
    for vary in (patched, recoloured):
        one = vary(shown, chance())
        assert one.shape == shown.shape
        assert one.min() >= 0
        assert one.max() <= 255
        assert torch.equal(one, vary(shown, chance()))
        assert not torch.equal(one, shown)
    changed = (patched(shown, chance()) != shown).any(dim=1).sum(dim=(1, 2))
    assert (changed <= 16 * 16).all()
    assert (changed > 0).all()


def test_the_same_seed_fits_the_same_and_tells_how_far_it_is() -> None:
    detector, maps, told = Detector(Options(size_px=64, steps=2, batch=2)), [], []
    for _ in range(2):
        torch.manual_seed(0)
        head = detector.fit(images(5), 0, lambda *at: told.append(at))
        with torch.inference_mode():
            maps.append(head(images(2)))
    assert torch.equal(maps[0], maps[1])
    assert told == [("fit", 1, 2), ("fit", 2, 2)] * 4
