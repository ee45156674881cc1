from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config.intervals import binomial_cdf, upper_bound
from inference.training.coreset import greedy_coreset
from inference.training.metrics import auroc
from inference.training.progress import unheard
from inference.training.resampling import Resample, area_weights, band_weights


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 100))
def test_every_output_pixel_is_the_mean_of_the_input_under_it(size_px: int, out: int) -> None:
    step = size_px / out
    half = max(step, 1.0) / 2
    edges = np.arange(size_px + 1)
    centres = (np.arange(out)[:, None] + 0.5) * step
    overlap = np.minimum(edges[1:], centres + half) - np.maximum(edges[:-1], centres - half)
    expected = np.maximum(overlap, 0) / np.maximum(overlap, 0).sum(axis=1, keepdims=True)
    assert area_weights(size_px, out).numpy() == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 3000), st.integers(1, 300))
def test_bands_are_a_small_share_of_the_input(size_px: int, out: int) -> None:
    pixels, weights = band_weights(size_px, out)
    bands = len(weights)
    assert out % bands == 0
    assert 0 <= int(pixels.min()) <= int(pixels.max()) < size_px
    assert weights.shape[1] * bands == out
    assert len(pixels) <= size_px + 3 * bands


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**16))
def test_shrinking_by_whole_numbers_is_the_block_mean(factor_y: int, factor_x: int, channels: int, seed: int) -> None:
    shape = (2, 4 * factor_y, 3 * factor_x, channels)
    frames = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    expected = frames.reshape(2, 4, factor_y, 3, factor_x, channels).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    assert Resample(4, 3)(torch.from_numpy(frames)).numpy() == pytest.approx(expected, abs=2e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(0, 255))
def test_an_even_frame_stays_even_at_any_size(height_px: int, width_px: int, value: int) -> None:
    frames = torch.full((1, height_px, width_px, 3), value, dtype=torch.uint8)
    assert torch.allclose(Resample(16, 24)(frames), torch.tensor(float(value)), atol=1e-3)


def plain_greedy(vectors: torch.Tensor, size: int, first: int) -> list[int]:
    taken, distances = [first], ((vectors - vectors[first]) ** 2).sum(dim=1)
    while len(taken) < size and distances.max() > 0:
        taken.append(int(distances.argmax()))
        distances = torch.minimum(distances, ((vectors - vectors[taken[-1]]) ** 2).sum(dim=1))
    return taken


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 5), st.integers(1, 500), st.integers(0, 2**16), st.integers(1, 60))
def test_the_coreset_is_that_of_the_plain_algorithm(count: int, width: int, size: int, seed: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inference.training.coreset.BLOCK", block)
        # small whole numbers: arithmetic is exact and ties abound
        vectors = torch.randint(-4, 5, (count, width), generator=torch.Generator().manual_seed(seed)).float()
        taken = greedy_coreset(vectors, size, torch.Generator().manual_seed(seed), unheard).tolist()
        first = int(torch.randint(count, (1,), generator=torch.Generator().manual_seed(seed)))
        assert taken == plain_greedy(vectors, min(size, count), first)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60))
def test_auroc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    good = [score for score, bad in pairs if not bad]
    bad = [score for score, bad in pairs if bad]
    measured = auroc([score for score, _ in pairs], [bad for _, bad in pairs])
    if not good or not bad:
        assert measured is None
        return
    wins = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    assert measured == pytest.approx(wins / (len(good) * len(bad)))


@given(st.integers(0, 300), st.integers(1, 300))
def test_at_the_upper_bound_so_few_events_are_as_rare_as_stated(events: int, trials: int) -> None:
    bound = upper_bound(min(events, trials), trials)
    assert events >= trials or binomial_cdf(events, trials, bound) == pytest.approx(0.05, rel=1e-6)
    assert bound >= min(events, trials) / trials
