"""Subspaces, DFM and FRE against a plain reading in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from config.errors import InputError
from inference.detectors import dfm, fre
from inference.training.progress import unheard
from inference.training.subspace import principal_subspace


def grid(seed: int, images: int = 12, side: int = 5, channels: int = 8) -> torch.Tensor:
    """Return features (N, side, side, C) near a subspace, around a mean far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, channels, generator=torch.Generator().manual_seed(99))
    codes = torch.randn(images, side, side, 3, generator=generator)
    return codes @ mixing + 0.1 * torch.randn(images, side, side, channels, generator=generator) + 7.0


def components(vectors: np.ndarray, kept: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, directions (k, D) and variances (k,) by a singular value decomposition."""
    mean = vectors.mean(axis=0)
    _, lengths, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    variances = lengths**2 / len(vectors)
    count = int(np.searchsorted(np.cumsum(variances) / variances.sum(), kept)) + 1
    return mean, directions[:count], variances[:count]


def left_over(vectors: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return vectors - mean - (vectors - mean) @ directions.T @ directions


def double(features: torch.Tensor) -> np.ndarray:
    return features.numpy().astype(np.float64)


@pytest.mark.parametrize("shape", [(200, 12), (9, 50)])
@pytest.mark.parametrize("kept", [0.3, 0.8, 0.97])
def test_a_subspace_is_that_of_a_singular_value_decomposition(shape: tuple[int, int], kept: float) -> None:
    scales = torch.linspace(3.0, 0.2, shape[1])
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scales + 5.0
    found = principal_subspace(vectors, kept)
    mean, directions, variances = components(double(vectors), kept)
    assert found.basis.shape == (shape[1], len(variances))
    assert np.allclose(found.mean, mean)
    assert np.allclose(found.variances, variances, rtol=1e-9)
    assert np.allclose(found.basis @ found.basis.T, directions.T @ directions, atol=1e-8)


def test_vectors_that_span_few_directions_give_no_more() -> None:
    vectors = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) @ torch.ones(2, 30).cumsum(dim=1)
    assert principal_subspace(vectors, 0.999999).basis.shape == (30, 1)


@pytest.mark.parametrize("shape", [(20, 6), (4, 30)])
def test_vectors_all_alike_give_one_empty_direction(shape: tuple[int, int]) -> None:
    found = principal_subspace(torch.full(shape, 3.0), 0.9)
    assert found.basis.shape == (shape[1], 1)
    assert not found.basis.any()


def test_dfm_gives_each_position_what_the_whole_image_lacks() -> None:
    features, unseen = grid(0), grid(1, images=3)
    head = dfm.Detector(dfm.Options(variance=0.8)).fit(features, 0, unheard)
    mean, directions, _ = components(double(features.flatten(1)), 0.8)
    expected = np.linalg.norm(left_over(double(unseen.flatten(1)), mean, directions).reshape(unseen.shape), axis=3)
    assert np.allclose(head(unseen), expected, rtol=5e-3)  # half precision in the basis


def test_dfm_gives_the_negative_log_density_of_its_components() -> None:
    features, unseen = grid(0), grid(1, images=3)
    head = dfm.Detector(dfm.Options(variance=0.8, score="likelihood")).fit(features, 0, unheard)
    mean, directions, variances = components(double(features.flatten(1)), 0.8)
    coordinates = (double(unseen.flatten(1)) - mean) @ directions.T
    densities = np.exp(-0.5 * coordinates**2 / variances) / np.sqrt(2 * np.pi * variances)
    assert head(unseen).shape == (3, 1, 1)
    assert np.allclose(head(unseen)[:, 0, 0], -np.log(densities).sum(axis=1), rtol=2e-3)


def test_fre_gives_each_position_what_patches_lack() -> None:
    features, unseen = grid(0), grid(1, images=3)
    head = fre.Detector(fre.Options(variance=0.9)).fit(features, 0, unheard)
    mean, directions, _ = components(double(features.flatten(0, 2)), 0.9)
    expected = np.linalg.norm(left_over(double(unseen.flatten(0, 2)), mean, directions), axis=1)
    assert np.allclose(head(unseen), expected.reshape(unseen.shape[:3]), rtol=5e-3, atol=2e-2)


def test_dfm_knows_what_belongs_where_and_fre_does_not() -> None:
    """Two kinds of patch in two halves, exchanged: nothing is strange but the place."""
    features = grid(0, images=40, side=4)
    features[:, :, 2:] *= -1.0
    exchanged = features[:1].flip(2)
    by_place, by_patch = (
        module.Detector(options).fit(features, 0, unheard)
        for module, options in ((dfm, dfm.Options(variance=0.5)), (fre, fre.Options()))
    )
    assert by_place(exchanged).min() > 1.5 * by_place(features).max()
    assert by_patch(exchanged).max() == pytest.approx(float(by_patch(features[:1]).max()), rel=1e-4)


@pytest.mark.parametrize(
    "detector",
    [
        dfm.Detector(dfm.Options()),
        dfm.Detector(dfm.Options(score="likelihood")),
        fre.Detector(fre.Options()),
    ],
)
@pytest.mark.parametrize("value", [0.0, 4.0])
def test_images_all_alike_give_finite_scores(detector: Any, value: float) -> None:
    head = detector.fit(torch.full((8, 4, 4, 6), value), 0, unheard)
    assert torch.isfinite(head(torch.full((1, 4, 4, 6), value))).all()
    assert torch.isfinite(head(torch.full((1, 4, 4, 6), value + 1.0))).all()


@pytest.mark.parametrize("detector", [dfm.Detector(dfm.Options()), fre.Detector(fre.Options())])
def test_what_is_no_number_is_refused(detector: Any) -> None:
    features = grid(0)
    features[3, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="image 3"):
        detector.fit(features, 0, unheard)
