"""Detectors that remember good images, against an independent reading of their papers in plain numpy, in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from config.errors import InputError
from inference.detectors import dfkde, dn2, mahalanobis, padim, spade
from inference.training.backbones import KINDS, deep
from inference.training.features import PooledOptions
from inference.training.progress import unheard

POOLED = 112 + 192 + 320  # channels of the default taps


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def standardised(good: Tensor, seen: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return both (..., C) in float64, of which `good` has mean 0 and deviation 1 in each channel."""
    a, b = good.numpy().astype(np.float64), seen.numpy().astype(np.float64)
    flat = a.reshape(-1, a.shape[-1])
    deviation = np.sqrt(flat.var(axis=0) + 1e-6 * (flat**2).mean())
    return (a - flat.mean(axis=0)) / deviation, (b - flat.mean(axis=0)) / deviation


def shrunk(vectors: np.ndarray, noise: float) -> np.ndarray:
    """Return the covariance of vectors (M, D) with mean 0 as Ledoit and Wolf (2004) estimate it."""
    count, dimensions = vectors.shape
    sample = vectors.T @ vectors / count
    target = np.trace(sample) / dimensions * np.eye(dimensions)
    d2 = ((sample - target) ** 2).sum()
    b2 = min(d2, sum(((np.outer(x, x) - sample) ** 2).sum() for x in vectors) / count**2)
    return np.asarray(b2 / d2 * target + (1 - b2 / d2) * sample + noise * np.eye(dimensions))


def mahalanobis_distance(good: np.ndarray, seen: np.ndarray, noise: float) -> np.ndarray:
    """Return the distance (N,) of `seen` (N, D) from the Gaussian of `good` (M, D)."""
    centre = good.mean(axis=0)
    apart = seen - centre
    return np.asarray(np.sqrt((apart @ np.linalg.inv(shrunk(good - centre, noise)) * apart).sum(axis=1)))


def test_dn2_is_the_mean_squared_distance_to_the_nearest() -> None:
    good, seen = drawn(30, 7) * 5 + 100, drawn(6, 7, seed=1) * 8 + 100
    a, b = standardised(good, seen)
    squared = ((b[:, None] - a[None]) ** 2).sum(axis=2)
    expected = np.sort(squared, axis=1)[:, :3].mean(axis=1)
    head = dn2.Detector(dn2.Options(neighbours=3)).fit(good, 0, unheard)
    assert np.allclose(head(seen)[:, 0, 0], expected, rtol=5e-3)  # half precision in the bank


def test_more_neighbours_than_images_are_all_images() -> None:
    head = dn2.Detector(dn2.Options(neighbours=50)).fit(drawn(8, 4), 0, unheard)
    assert head(drawn(2, 4, seed=1)).shape == (2, 1, 1)


def density(good: np.ndarray, seen: np.ndarray, components: int) -> np.ndarray:
    """Return -log of the mean of Gaussian kernels on principal components of deviation 1, for each of these."""
    values, vectors = np.linalg.eigh(np.cov(good, rowvar=False))
    first = np.argsort(values)[::-1][:components]
    basis = vectors[:, first] / np.sqrt(values[first])
    a, b = good @ basis, seen @ basis
    kernel = np.cov(a, rowvar=False).reshape(components, components) * len(a) ** (-2 / (components + 4))
    apart = b[:, None] - a[None]
    heights = np.exp(-0.5 * np.einsum("nmi,ij,nmj->nm", apart, np.linalg.inv(kernel), apart))
    volume = np.sqrt(np.linalg.det(2 * np.pi * kernel))
    return np.asarray(-np.log(heights.mean(axis=1) / volume) / components)


@pytest.mark.parametrize("components", [1, 3, 6])
def test_dfkde_is_less_the_log_of_a_kernel_density(components: int) -> None:
    mixing = drawn(6, 6, seed=2)
    good, seen = drawn(200, 6) @ mixing + 3, drawn(9, 6, seed=1) @ mixing + 3
    head = dfkde.Detector(dfkde.Options(components=components)).fit(good, 0, unheard)
    assert np.allclose(head(seen)[:, 0, 0], density(*standardised(good, seen), components), rtol=5e-3, atol=2e-2)


def test_dfkdes_scores_after_fewer_images_are_those_after_all() -> None:
    """Cross-fitting sets a threshold by heads that saw a fifth less, and so have fewer components."""
    good, further = drawn(40, 100), drawn(200, 100, seed=1)
    detector = dfkde.Detector(dfkde.Options())
    fewer, all_of_them = (float(detector.fit(good[:count], 0, unheard)(further).median()) for count in (32, 40))
    assert fewer == pytest.approx(all_of_them, rel=0.1)


def test_dfkde_stays_finite_and_grows_where_every_kernel_underflows() -> None:
    head = dfkde.Detector(dfkde.Options(components=3)).fit(drawn(40, 6), 0, unheard)
    scores = head(torch.ones((3, 6)) * torch.tensor([[10.0], [1e3], [1e6]]))[:, 0, 0]
    assert torch.isfinite(scores).all()
    assert scores[0] < scores[1] < scores[2]


def test_mahalanobis_sums_the_distances_of_its_taps() -> None:
    good, seen = drawn(20, POOLED) * 2 + 5, drawn(4, POOLED, seed=1) * 3 + 5
    a, b = standardised(good, seen)
    bounds = [0, 112, 112 + 192, POOLED]
    expected = sum(mahalanobis_distance(a[:, low:high], b[:, low:high], 1e-4) for low, high in pairwise(bounds))
    head = mahalanobis.Detector(mahalanobis.Options()).fit(good, 0, unheard)
    assert np.allclose(head(seen)[:, 0, 0], expected, rtol=2e-3)


def test_padim_measures_each_place_by_its_own_gaussian() -> None:
    good, seen = drawn(25, 3, 4, 9) * drawn(3, 4, 1, seed=3) + drawn(3, 4, 9, seed=4), drawn(2, 3, 4, 9, seed=1)
    head = padim.Detector(padim.Options(channels=5)).fit(good, 7, unheard)
    chosen = head.get_buffer("reduction.chosen")
    assert len(set(chosen.tolist())) == 5
    a, b = standardised(good[..., chosen], seen[..., chosen])
    found = head(seen)
    for row, column in np.ndindex(3, 4):
        expected = mahalanobis_distance(a[:, row, column], b[:, row, column], 0.1)
        assert np.allclose(found[:, row, column], expected, rtol=5e-3)


def test_padim_over_all_orthogonal_mixtures_sees_every_channel() -> None:
    """With as many mixtures as channels nothing is lost: a rotation changes no distance but by rounding."""
    good, seen = drawn(60, 2, 2, 6), drawn(3, 2, 2, 6, seed=1)
    options = padim.Options(channels=6, reduction="semi-orthogonal")
    mixed = padim.Detector(options).fit(good, 0, unheard)(seen)
    plain = padim.Detector(padim.Options(channels=6)).fit(good, 0, unheard)(seen)
    assert torch.allclose(mixed, plain, rtol=3e-3)


def test_padims_seed_chooses_the_channels() -> None:
    good = drawn(9, 2, 2, 30)
    detector = padim.Detector(padim.Options(channels=5))
    chosen = [detector.fit(good, seed, unheard).get_buffer("reduction.chosen").tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def correspondence(gallery: np.ndarray, image: np.ndarray, images: int) -> np.ndarray:
    """Return each patch's distance to the nearest in the `images` of the gallery with the nearest means."""
    order = np.argsort([np.linalg.norm(other.mean(axis=(0, 1)) - image.mean(axis=(0, 1))) for other in gallery])
    patches = gallery[order[:images]].reshape(-1, gallery.shape[-1])
    return np.array([[np.linalg.norm(patches - cell, axis=1).min() for cell in row] for row in image])


@pytest.mark.parametrize("images", [1, 3, 99])
def test_spade_compares_with_the_images_most_alike(images: int) -> None:
    good = drawn(12, 3, 4, 6) + 2 * drawn(12, 1, 1, 6, seed=5)
    seen = drawn(5, 3, 4, 6, seed=1) + 2 * drawn(5, 1, 1, 6, seed=6)
    head = spade.Detector(spade.Options(images=images)).fit(good, 0, unheard)
    a, b = standardised(good, seen)
    found = head(seen)
    for index in range(5):
        assert np.allclose(found[index], correspondence(a, b[index], images), rtol=5e-3, atol=2e-3)


def test_spades_gallery_is_bounded() -> None:
    head = spade.Detector(spade.Options(gallery=4)).fit(drawn(12, 3, 4, 6), 0, unheard)
    assert len(head.get_buffer("patches")) == 4


def pooled(count: int) -> Tensor:
    return drawn(count, POOLED)


def patches(count: int) -> Tensor:
    return drawn(count, 3, 4, 120)


ALL: list[tuple[object, Callable[[int], Tensor]]] = [
    (dn2.Detector(dn2.Options()), pooled),
    (dfkde.Detector(dfkde.Options()), pooled),
    (mahalanobis.Detector(mahalanobis.Options()), pooled),
    (padim.Detector(padim.Options()), patches),
    (spade.Detector(spade.Options()), patches),
]


@pytest.fixture(params=ALL, ids=lambda pair: pair[0].__module__.rsplit(".", 1)[-1])
def case(request: pytest.FixtureRequest) -> tuple[object, Callable[[int], Tensor]]:
    return request.param  # type: ignore[no-any-return] # pytest knows no type of its parameters


def fitted(detector: object, good: Tensor) -> nn.Module:
    head = detector.fit(good, 0, unheard)  # type: ignore[attr-defined] # any of five detectors
    assert isinstance(head, nn.Module)
    return head


def test_few_images_do(case: tuple[object, Callable[[int], Tensor]]) -> None:
    """With fewer images than channels what lies farther away still scores higher, and all is finite."""
    detector, make = case
    good = make(8)
    head = fitted(detector, good[:6])
    usual, odd = head(good[6:]).amax(dim=(1, 2)), head(good[6:] + 6.0).amax(dim=(1, 2))
    assert torch.isfinite(torch.cat([usual, odd])).all()
    assert (odd > usual).all()


def test_images_all_alike_still_tell_a_change(case: tuple[object, Callable[[int], Tensor]]) -> None:
    detector, make = case
    good = make(1).expand(8, *[-1] * (make(1).ndim - 1)).contiguous()
    head = fitted(detector, good)
    scores = [float(head(good[:1] + by).amax()) for by in (0.0, 0.1, 1.0)]
    assert np.isfinite(scores).all()
    assert scores[0] < scores[1] < scores[2]


def test_features_all_zero_do_not_divide_by_zero(case: tuple[object, Callable[[int], Tensor]]) -> None:
    detector, make = case
    head = fitted(detector, torch.zeros_like(make(8)))
    assert torch.isfinite(head(make(2))).all()


def test_what_is_no_number_is_refused_by_name(case: tuple[object, Callable[[int], Tensor]]) -> None:
    detector, make = case
    for wrong in (torch.nan, torch.inf):
        good = make(8)
        good[5].view(-1)[3] = wrong
        with pytest.raises(InputError, match=r"features of 1 of 8 images \(of image 5 first\) are not finite"):
            fitted(detector, good)


def test_pooled_features_look_deep_unless_told_otherwise() -> None:
    assert PooledOptions().untrained().channels == (112, 192, 320)
    assert PooledOptions(taps=(4,)).untrained().channels == (40,)
    assert all(kind.deep and set(kind.deep) <= set(kind.taps) for kind in KINDS.values())
    assert deep("unheard of") == ()
    assert deep("timm:anything")
