from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.training.gaussian import gaussian, scale


def ledoit_wolf(vectors: np.ndarray) -> np.ndarray:
    """Return the estimator as the paper's section 3.3 writes it down, one sum after the other."""
    count, dimensions = vectors.shape
    centred = vectors - vectors.mean(axis=0)
    sample = centred.T @ centred / count
    m = np.trace(sample) / dimensions
    d2 = ((sample - m * np.eye(dimensions)) ** 2).sum() / dimensions
    b2 = sum(((np.outer(x, x) - sample) ** 2).sum() / dimensions for x in centred) / count**2
    b2 = min(b2, d2)
    return np.asarray(b2 / d2 * m * np.eye(dimensions) + (d2 - b2) / d2 * sample)


@pytest.mark.parametrize(("count", "dimensions"), [(5, 12), (40, 12), (2000, 4)])
def test_the_covariance_is_ledoits_and_wolfs(count: int, dimensions: int) -> None:
    rng = np.random.default_rng(count)
    vectors = rng.normal(size=(count, dimensions)) @ rng.normal(size=(dimensions, dimensions)) + 3.0
    fitted = gaussian(torch.from_numpy(vectors))
    precision = (fitted.whitening.mT @ fitted.whitening).numpy()
    assert np.allclose(np.linalg.inv(precision), ledoit_wolf(vectors) + 1e-4 * np.eye(dimensions), rtol=1e-9)
    assert np.allclose(fitted.mean, vectors.mean(axis=0))


def test_every_place_has_its_own() -> None:
    vectors = torch.randn((3, 9, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = gaussian(vectors)
    for place in range(3):
        alone = gaussian(vectors[place])
        assert torch.allclose(together.mean[place], alone.mean)
        assert torch.allclose(together.whitening[place], alone.whitening)


@pytest.mark.parametrize("count", [1, 8])
def test_vectors_that_are_all_alike_have_a_gaussian_all_the_same(count: int) -> None:
    fitted = gaussian(torch.full((count, 4), 2.5))
    assert torch.allclose(fitted.whitening, 100.0 * torch.eye(4, dtype=torch.float64))


def test_standardised_vectors_have_mean_0_and_deviation_1() -> None:
    vectors = torch.randn((500, 3), generator=torch.Generator().manual_seed(0)) * torch.tensor([0.5, 4.0, 9.0]) + 7.0
    done = scale(vectors).apply(vectors)
    assert torch.allclose(done.mean(dim=0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(done.std(dim=0), torch.ones(3), atol=1e-2)


def test_a_dead_channel_does_not_become_the_loudest() -> None:
    vectors = torch.randn((50, 2), generator=torch.Generator().manual_seed(0))
    vectors[:, 1] = 1e-9 * vectors[:, 0]
    assert scale(vectors).factor[1] < 2000.0
    assert torch.equal(scale(torch.zeros((4, 2))).factor, torch.ones(2))
