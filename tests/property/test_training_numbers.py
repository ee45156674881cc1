from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.training.coreset import greedy_coreset
from inference.training.intervals import binomial_cdf, upper_bound
from inference.training.metrics import auroc
from inference.training.progress import unheard
from inference.training.resampling import Resample, area_weights, pool_for


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 100), st.data())
def test_every_output_pixel_is_a_mean_of_the_input_under_it(size_px: int, out: int, data: st.DataObject) -> None:
    pool_px = data.draw(st.integers(1, pool_for(size_px, out)))
    cells = -(-size_px // pool_px)
    edges = np.minimum(np.arange(cells + 1) * pool_px, size_px)
    weights = area_weights(size_px, cells, out, pool_px).numpy() * np.diff(edges)
    assert weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(np.ones(out), abs=1e-5)
    middles = (edges[:-1] + edges[1:]) / 2
    step = size_px / out
    inside = slice(1, -1) if step < 1 else slice(None)  # beyond the outer pixels' middles the nearest one counts
    expected = (np.arange(out) + 0.5) * step
    # a ramp stays a ramp, but for half a cell where a cell is shared
    assert np.abs(weights @ middles - expected)[inside].max(initial=0) <= pool_px / 2 + size_px * 1e-5


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**16))
def test_shrinking_by_whole_numbers_is_the_block_mean(factor_y: int, factor_x: int, channels: int, seed: int) -> None:
    shape = (2, 4 * factor_y, 3 * factor_x, channels)
    frames = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    expected = frames.reshape(2, 4, factor_y, 3, factor_x, channels).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    for pool_px in ((1, 1), (factor_y, 1), (factor_y, factor_x)):
        assert Resample(4, 3, pool_px)(torch.from_numpy(frames)).numpy() == pytest.approx(expected, abs=2e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(0, 255))
def test_an_even_frame_stays_even_at_any_size(height_px: int, width_px: int, value: int) -> None:
    frames = torch.full((1, height_px, width_px, 3), value, dtype=torch.uint8)
    for pool_px in ((1, 1), (2, 3)):
        assert torch.allclose(Resample(16, 24, pool_px)(frames), torch.tensor(float(value)), atol=1e-3)


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
