"""SuperSimpleNet puts noise under clouds."""

from __future__ import annotations

import torch

from inference.detectors.supersimplenet import MOST_COVERED, clouds


def test_clouds_cover_a_part_of_some_images_and_nothing_of_the_others() -> None:
    torch.manual_seed(0)
    masks = torch.cat([clouds(16, 14, 12) for _ in range(8)])
    assert masks.shape == (128, 14, 12)
    assert set(masks.flatten().tolist()) == {0.0, 1.0}
    shares = masks.mean(dim=(1, 2))
    assert 40 < int((shares > 0).sum()) < 88
    assert shares.max() <= MOST_COVERED + 1 / 14
