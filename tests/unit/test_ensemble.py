"""An ensemble is the mean of its members' maps, each by how high good images score in it."""

from __future__ import annotations

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from config.errors import ConfigurationError
from inference.training import detector
from inference.training.calibration import folds
from inference.training.features import EvenLight
from inference.training.progress import unheard

MEMBERS: list[JsonValue] = [{"detector": "fre"}, {"detector": "dfm", "options": {"even_light": True}}]


def grid(images: int, seed: int) -> Tensor:
    """Return features (N, 4, 4, 6) that lie near a plane."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, 6, generator=torch.Generator().manual_seed(9))
    codes = torch.randn(images, 4, 4, 2, generator=generator)
    return codes @ mixing + 0.1 * torch.randn(images, 4, 4, 6, generator=generator)


def test_maps_are_added_each_in_shares_of_what_good_images_score() -> None:
    good, seen = grid(20, 0), grid(3, 1)
    found = detector.load("ensemble", {"members": MEMBERS})[0].fit(good, 0, unheard)(seen)
    (held_out,) = folds(20, detector.HOLD_OUT, 0)
    kept = [index for index in range(20) if index not in held_out]
    expected = torch.zeros(3, 4, 4)
    for name, prepare in (("fre", lambda features: features), ("dfm", EvenLight())):
        built = detector.load(name, {})[0]
        usual = built.fit(prepare(good[kept]), 0, unheard)(prepare(good[held_out])).amax(dim=(1, 2)).mean()
        expected += built.fit(prepare(good), 0, unheard)(prepare(seen)) / usual / 2
    assert torch.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([{"detector": "fre"}], "members"),
        ([{"detector": "fre"}, {"detector": "stfpm"}], "detector"),
        (
            [{"detector": "fre"}, {"detector": "dfm", "options": {"size_px": 320}}],
            "size_px: to be said of the ensemble",
        ),
        ([{"detector": "fre"}, {"detector": "dfm", "options": {"varianze": 0.9}}], "varianze"),
    ],
)
def test_members_are_checked(members: list[JsonValue], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        detector.load("ensemble", {"members": members})


def test_a_member_that_draws_has_a_scale_of_its_own_and_the_others_keep_theirs() -> None:
    images = torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 255.0
    quick: JsonValue = {"detector": "drawn", "options": {"steps": 3, "copies": 1}}
    shared: dict[str, object] = {"size_px": 64, "taps": [4]}
    with_drawn = detector.load("ensemble", {**shared, "members": [*MEMBERS, quick]})[0]
    plain = detector.load("ensemble", {**shared, "members": MEMBERS})[0]
    assert (with_drawn.folds, plain.folds) == (detector.HOLD_OUT, detector.CROSS_FIT)
    torch.manual_seed(0)
    head = with_drawn.fit(images, 0, unheard).eval()
    with torch.no_grad():
        grid = head[0](images)  # type: ignore[index] # a Sequential: features first
        expected = plain.fit(grid, 0, unheard)(grid) * 2 + head[1].heads[2](grid)  # type: ignore[index] # as above
        assert torch.allclose(head(images), expected / 3, rtol=1e-4, atol=1e-6)
