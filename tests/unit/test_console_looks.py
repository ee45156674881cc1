"""Small maps and the look of crops: the highest score stays, and what looks alike is alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from storage.console.api import _reduced
from storage.console.similar import describe


@pytest.mark.parametrize("shape", [(32, 32), (33, 65), (200, 7), (1, 1), (64, 100)])
def test_a_small_map_keeps_the_highest_scores_where_they_are(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(3).normal(size=shape).astype(np.float16)
    small = _reduced(scores, 32)
    assert max(small.shape) <= 32
    assert small.max() == scores.max()
    step = -(-max(shape) // 32)
    row, column = np.unravel_index(int(scores.argmax()), shape)
    assert small[row // step, column // step] == scores.max()


def _crop(angle: float, colour: tuple[int, int, int], seed: int) -> bytes:
    pixels = np.full((96, 96, 3), 140, np.uint8)
    pixels = pixels + np.random.default_rng(seed).integers(0, 12, pixels.shape).astype(np.uint8)
    across, down = 34 * np.cos(angle), 34 * np.sin(angle)
    ends = [(round(48 + sign * across), round(48 + sign * down)) for sign in (-1, 1)]
    cv2.line(pixels, ends[0], ends[1], colour, 5)
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_a_scratch_is_more_like_a_scratch_than_like_another_ones_direction_or_a_stain() -> None:
    one, same = describe(_crop(0.5, (30, 30, 30), 1)), describe(_crop(0.55, (36, 36, 36), 2))
    across = describe(_crop(0.5 + np.pi / 2, (30, 30, 30), 3))
    stain = np.full((96, 96, 3), 140, np.uint8)
    cv2.circle(stain, (48, 48), 30, (40, 70, 110), -1)
    spot = describe(cv2.imencode(".png", stain)[1].tobytes())
    assert one is not None
    assert same is not None
    assert across is not None
    assert spot is not None
    assert float(one @ one) == pytest.approx(1, abs=1e-5)
    assert float(one @ same) > max(float(one @ across), float(one @ spot)) + 0.2


def test_what_is_no_image_has_no_look_and_a_flat_one_is_like_nothing() -> None:
    assert describe(b"") is None
    assert describe(b"not an image") is None
    flat = describe(cv2.imencode(".png", np.full((9, 9, 3), 7, np.uint8))[1].tobytes())
    assert flat is not None
    assert not flat.any()
