"""Drawn defects change a good image in one place, and say where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.training.discriminator import drawn
from inference.training.drawing import KINDS, spoiled

SIDE_PX = 96


def textured(seed: int, channels: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(90, 160, (SIDE_PX, SIDE_PX, channels)).astype(np.float32)


@pytest.mark.parametrize("number", range(len(KINDS)))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_defect_is_where_it_is_said_to_be(number: int, channels: int) -> None:
    random = np.random.default_rng(number)
    seen = 0
    for seed in range(20):
        good, other = textured(seed, channels), textured(seed + 100, channels)
        before = good.copy()
        changed, mask = spoiled(good, other, number, random)
        assert np.array_equal(good, before), "the good image is left as it was"
        assert changed.shape == good.shape
        assert changed.dtype == np.float32
        assert changed.min() >= 0.0
        assert changed.max() <= 255.0
        assert mask.mean() < 0.6
        assert np.abs(changed - good)[~mask].max() <= 4.0
        seen += int(mask.any())
    assert seen > 10, "most defects can be seen"


def test_the_same_seed_draws_the_same_and_each_copy_has_a_defect_of_its_own() -> None:
    images = torch.from_numpy(np.stack([textured(seed, 1).transpose(2, 0, 1) for seed in range(4)]))
    first, bad = drawn(images, 6, 0, 3)
    again, _ = drawn(images, 6, 0, 3)
    second, _ = drawn(images, 6, 1, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert (first.shape, bad.shape) == (images.shape, (4, 6, 6))
    assert set(np.unique(bad.numpy())) <= {0.0, 1.0}


def test_what_is_black_has_nothing_that_could_be_drawn_on() -> None:
    black = np.zeros((SIDE_PX, SIDE_PX, 1), np.float32)
    for number in range(len(KINDS)):
        changed, mask = spoiled(black, black, number, np.random.default_rng(0))
        assert not changed.any()
        assert not mask.any()
