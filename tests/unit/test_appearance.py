from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from config.messages import PixelFormat
from inference.appearance import Looks, appearance

S = 1_000_000_000


def textured(height_px: int = 700, width_px: int = 900, seed: int = 1) -> np.ndarray:
    ground = np.random.default_rng(seed).normal(120, 40, (height_px, width_px))
    return np.clip(cv2.GaussianBlur(ground, (0, 0), 1.0) * 1.0, 0, 255).astype(np.uint8)[..., None]


def test_brightness_is_the_mean_and_focus_the_variance_of_the_laplacian() -> None:
    image = textured(192, 192)  # exactly the tiles
    brightness, focus = appearance(image, PixelFormat.MONO8)
    assert brightness == pytest.approx(image.mean())
    inside = cv2.Laplacian(image[..., 0].astype(np.float64), cv2.CV_64F)
    assert focus == pytest.approx(inside.var(), rel=0.05)  # but for the borders of tiles


def test_light_and_lens_are_told_apart() -> None:
    image = textured()
    brightness, focus = appearance(image, PixelFormat.MONO8)
    darker, _ = appearance((image * 0.9).astype(np.uint8), PixelFormat.MONO8)
    assert darker == pytest.approx(0.9 * brightness, abs=0.6)
    blurred = cv2.GaussianBlur(image, (0, 0), 1.5)[..., None]
    same, soft = appearance(blurred, PixelFormat.MONO8)
    assert same == pytest.approx(brightness, abs=1)
    assert soft < focus / 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 3), (63, 400, 1), (65, 65, 3), (2048, 2448, 3)])
def test_frames_of_any_size_have_an_appearance(shape: tuple[int, int, int]) -> None:
    pixels = np.full(shape, 77, np.uint8)
    pixel_format = PixelFormat.BGR8 if shape[2] == 3 else PixelFormat.BAYER_RGGB8
    assert appearance(pixels, pixel_format) == pytest.approx((77.0, 0.0))


def test_colours_of_a_mosaic_are_no_focus() -> None:
    mosaic = np.full((400, 400, 1), 40, np.uint8)
    mosaic[::2, ::2] = 200
    assert appearance(mosaic, PixelFormat.BAYER_RGGB8)[1] == 0
    assert appearance(mosaic, PixelFormat.MONO8)[1] > 1000


def test_it_takes_little_time_whatever_the_size() -> None:
    pixels = np.zeros((2048, 2448, 3), np.uint8)
    appearance(pixels, PixelFormat.BGR8)
    took_ms = []
    for _ in range(20):
        began_s = time.process_time()
        appearance(pixels, PixelFormat.BGR8)
        took_ms.append((time.process_time() - began_s) * 1e3)
    assert min(took_ms) < 2  # 0.2 ms on an idle core; CPU time is coarse on a shared one


def test_sums_are_told_every_ten_seconds_and_once() -> None:
    looks = Looks("worker-0", "st")
    assert looks.due("top", 0)
    looks.take("top", "cap", (100.0, 4.0), 0)
    assert not looks.due("top", S // 10)
    assert looks.due("side", S // 10)
    assert looks.due("top", S // 4)
    looks.take("top", "cap", (110.0, 6.0), S // 4)
    looks.take("top", "gear", (50.0, 1.0), S // 2)
    assert looks.tell(9 * S, 1) == []
    told = looks.tell(11 * S, 5)
    assert [(one.camera, one.product, one.frames) for one in told] == [("top", "cap", 2), ("top", "gear", 1)]
    assert (told[0].brightness_sum, told[0].brightness_squares) == (210.0, 22_100.0)
    assert (told[0].focus_sum, told[0].focus_squares) == (10.0, 52.0)
    assert len({one.record_id for one in told}) == 2
    assert looks.tell(30 * S, 6) == []
    looks.take("top", "cap", (1.0, 1.0), 31 * S)
    assert len(looks.tell(31 * S, 7, at_once=True)) == 1
