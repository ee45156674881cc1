"""Each classical operator against OpenCV, scikit-image or numpy, or against plain loops from its definition."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from pydantic import JsonValue
from scipy import ndimage, signal
from skimage import feature, morphology, registration
from torch import Tensor

from config.errors import ConfigurationError
from inference.detectors.classical import Deviations, Whole
from inference.images import Frame
from inference.training import detector
from inference.training.detector import FrameFormat, Network
from inference.training.export import prove, to_onnx
from inference.training.operators.edges import Laplacian, Sobel
from inference.training.operators.intensity import Histogram, threshold
from inference.training.operators.lines import Canny, Skeleton
from inference.training.operators.morphology import BlackHat, TopHat
from inference.training.operators.spectrum import PASSES, FourierNotch, spectrum
from inference.training.operators.template import Difference, Template
from inference.training.operators.texture import RING, LocalBinaryPattern
from inference.training.operators.tiles import DIRECTIONS, LEAST_VARIANCE, Autocorrelation, Cooccurrence
from inference.training.progress import unheard

NAMES = (
    *("sobel", "laplacian", "top_hat", "black_hat", "lbp", "histogram", "otsu"),
    *("glcm", "autocorrelation", "fourier_notch", "canny", "skeleton", "template"),
)
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # (y, x), from above, clockwise


def image(seed: int = 0, height_px: int = 48, width_px: int = 64) -> Frame:
    """Return grey levels (H, W): a bright blob with noise on dark ground."""
    rng = np.random.default_rng(seed)
    frame = np.full((height_px, width_px), 70, np.uint8)
    cv2.circle(frame, (width_px // 2, height_px // 2), height_px // 3, 180, -1)
    return np.clip(frame + rng.normal(0, 12, frame.shape), 0, 255).astype(np.uint8)


def tensor(frame: Frame) -> Tensor:
    return torch.from_numpy(frame.astype(np.float32))[None, None]


def test_sobel() -> None:
    frame = image()
    dx, dy = cv2.Sobel(frame, cv2.CV_64F, 1, 0), cv2.Sobel(frame, cv2.CV_64F, 0, 1)
    np.testing.assert_allclose(Sobel().respond(tensor(frame))[0, 0], (abs(dx) + abs(dy)) / 1020, atol=1e-6)


def test_laplacian() -> None:
    expected = np.abs(cv2.Laplacian(image(), cv2.CV_64F, ksize=1)) / 1020
    np.testing.assert_allclose(Laplacian().respond(tensor(image()))[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("radius_px", [1, 4, 15])
def test_hats(radius_px: int) -> None:
    square = np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
    for operator, kind in (
        (TopHat(radius_px=radius_px), cv2.MORPH_TOPHAT),
        (BlackHat(radius_px=radius_px), cv2.MORPH_BLACKHAT),
    ):
        expected = cv2.morphologyEx(image(), kind, square) / 255
        np.testing.assert_allclose(operator.respond(tensor(image()))[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("radius_px", [1, 3])
def test_lbp_on_whole_grey_levels_is_the_plain_pattern(radius_px: int) -> None:
    frame = image()
    wide = np.pad(frame.astype(int), radius_px, mode="reflect")
    got = LocalBinaryPattern(radius_px=radius_px).respond(tensor(frame))[0]
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            around = [wide[y + (1 + dy) * radius_px, x + (1 + dx) * radius_px] for dy, dx in RING]
            bits = [int(value >= frame[y, x]) for value in around]
            changes = sum(one != other for one, other in pairwise([*bits, bits[0]]))
            assert int(got[:, y, x].argmax()) == (sum(bits) if changes <= 2 else 9)
            assert float(got[:, y, x].max()) == 1.0


def test_histogram_shares_each_pixel_between_two_levels() -> None:
    shares = Histogram(levels=6).respond(tensor(image()))
    np.testing.assert_allclose(shares.sum(dim=1), 1.0, atol=1e-5)
    means = (shares * torch.arange(6)[None, :, None, None]).sum(dim=1) * 51  # levels lie 51 grey levels apart
    np.testing.assert_allclose(means[0], image(), atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_otsus_threshold_parts_as_well_as_opencvs(seed: int) -> None:
    frame = image(seed, 96, 128)
    limit, _ = cv2.threshold(frame, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    ours = float(threshold(tensor(frame)))
    assert np.mean((frame > limit) != (frame > ours)) < 0.01


@pytest.mark.parametrize("tile_px", [8, 16])
@pytest.mark.parametrize("lag_px", [1, 3])
def test_the_cooccurrence_matrix_has_the_properties_that_scikit_image_finds(tile_px: int, lag_px: int) -> None:
    levels = 6
    codes = (image() // 43).astype(np.uint8)
    operator = Cooccurrence(levels=levels, tile_px=tile_px, lag_px=lag_px)
    found = operator.respond(tensor(codes * 51))[0]
    assert found.shape == (6, 48, 64)
    for y in range(0, 48, tile_px):
        for x in range(0, 64, tile_px):
            tile = codes[y : y + tile_px, x : x + tile_px]
            # lags on the diagonals are whole pixels both ways, which is the distance's square root of two as far
            straight = feature.graycomatrix(tile, [lag_px], [0, np.pi / 2], levels, symmetric=True)
            aslant = feature.graycomatrix(tile, [lag_px * 2**0.5], [np.pi / 4, 3 * np.pi / 4], levels, symmetric=True)
            matrix = np.concatenate([straight, aslant], axis=3).sum(axis=3, keepdims=True).astype(np.float64)
            names = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy", "variance")
            *expected, variance = (feature.graycoprops(matrix, name).item() for name in names)
            # where hardly anything varies ours is drawn to 1, which theirs is where nothing does
            expected[4] = 1 - (1 - expected[4]) * variance / (variance + LEAST_VARIANCE)
            got = found[:, y, x].double().numpy() * (25, 5, 1, 1, 1, 2 * np.log(levels))
            np.testing.assert_allclose(got, expected, atol=1e-4)
            assert (found[:, y : y + tile_px, x : x + tile_px] == found[:, y, x][:, None, None]).all()


def test_autocorrelation() -> None:
    frame = image().astype(np.float64)
    lags_px = (1, 5)
    found = Autocorrelation(tile_px=8, lags_px=lags_px).respond(tensor(image()))[0]
    for y in range(0, 48, 8):
        for x in range(0, 64, 8):
            tile = frame[y : y + 8, x : x + 8] - frame[y : y + 8, x : x + 8].mean()
            sums = signal.correlate2d(tile, tile)
            power = (tile**2).mean() + 1
            expected = [
                sums[7 + lag * dy, 7 + lag * dx] / ((8 - lag * dy) * (8 - lag * abs(dx))) / power
                for lag in lags_px
                for dy, dx in DIRECTIONS
            ]
            np.testing.assert_allclose(found[:, y, x], expected, atol=1e-4)


def test_a_broken_rhythm_is_uncorrelated() -> None:
    stripes = np.tile(np.where(np.arange(64) % 4 < 2, 60, 160).astype(np.uint8), (48, 1))
    stripes[16:32, 16:32] = image()[16:32, 16:32]
    found = Autocorrelation(lags_px=(4,)).respond(tensor(stripes))[0, 0]
    assert found[0, 0] > 0.95
    assert found[20, 20] < 0.6


def test_the_spectrum_is_numpys() -> None:
    frame = image().astype(np.float64)
    found = spectrum(tensor(image())[:, 0])
    expected = np.fft.rfft2(frame)
    scale = abs(expected).max()
    np.testing.assert_allclose(found.real[0] / scale, expected.real / scale, atol=1e-6)
    np.testing.assert_allclose(found.imaginary[0] / scale, expected.imag / scale, atol=1e-6)
    np.testing.assert_allclose(found.values(torch.arange(48), torch.arange(64), 64)[0], frame, atol=1e-2)


def test_the_notch_is_what_numpy_makes_of_it() -> None:
    operator = FourierNotch(times=3.0, radius=2)
    whole = np.fft.fft2(image().astype(np.float64))
    for _ in range(PASSES):
        magnitude = abs(whole)
        around = ndimage.uniform_filter(magnitude, 2 * operator.radius + 1, mode="wrap")
        whole *= np.minimum(1.0, operator.times * around / magnitude)
    expected = abs(np.fft.ifft2(whole).real) / 255
    np.testing.assert_allclose(operator.respond(tensor(image()))[0, 0], expected, atol=1e-5)


def test_the_notch_leaves_a_flaw_of_what_repeats() -> None:
    rows, columns = np.mgrid[:96, :128]
    weave = (120 + 50 * np.sin(rows * np.pi / 4) * np.sin(columns * np.pi / 8)).astype(np.uint8)
    flawed = weave.copy()
    flawed[40:44, 60:72] = 30
    sound, found = (FourierNotch().respond(tensor(frame))[0, 0] for frame in (weave, flawed))
    assert sound.max() < 0.02
    assert found[40:44, 60:72].mean() > 10 * found[:32].mean()


def test_canny_finds_the_edges_that_scikit_image_finds() -> None:
    frame = image(1)
    cv2.line(frame, (5, 5), (60, 15), 30, 2)
    operator = Canny(sigma_px=1.4, low_gray=12, high_gray=30, steps=64)
    expected = feature.canny(frame.astype(float), 1.4, low_threshold=12 * 4, high_threshold=30 * 4, mode="nearest")
    inside = np.s_[2:-2, 2:-2]  # scikit-image has no edge on the border itself
    got, expected = operator.respond(tensor(frame))[0, 0].numpy()[inside], expected[inside]
    clear = (got < 0.01) | (got > 0.99)
    assert clear.mean() > 0.99
    assert np.mean((got > 0.5)[clear] != expected[clear]) < 0.001
    assert expected.sum() > 100


def test_canny_follows_a_weak_edge_so_many_pixels_from_a_strong_one() -> None:
    frame = np.full((32, 96), 100, np.uint8)
    frame[16:] += np.linspace(80, 20, 96).astype(np.uint8)  # a rise that fades: strong up to some column, then weak
    columns = []
    for steps in (0, 8, 64):
        edge = Canny(steps=steps).respond(tensor(frame))[0, 0, 12:20].amax(dim=0)
        columns.append(int((edge > 0.5).nonzero().max()))
    assert columns[1] == columns[0] + 8
    assert columns[2] >= 94


@pytest.mark.parametrize("of", ["bright", "dark"])
def test_the_skeleton_is_that_of_the_paper_and_near_scikit_images(of: str) -> None:
    shape = np.zeros((64, 96), np.uint8)
    cv2.line(shape, (8, 50), (80, 12), 1, 7)
    cv2.circle(shape, (60, 42), 12, 1, 4)
    cv2.rectangle(shape, (6, 6), (30, 18), 1, -1)
    frame = np.where(shape == (of == "bright"), 200, 40).astype(np.uint8)
    got = Skeleton(of=of, steps=12).respond(tensor(frame))[0, 0].numpy()
    assert np.array_equal(got, thinned(shape))
    theirs = morphology.skeletonize(shape.astype(bool), method="zhang").astype(np.uint8)  # it drops corners besides
    near = np.ones((3, 3), np.uint8)
    assert (theirs & ~cv2.dilate(got.astype(np.uint8), near)).sum() <= 2
    assert not (got.astype(np.uint8) & ~cv2.dilate(theirs, near)).any()


def thinned(shape: Frame) -> Frame:
    """Return a shape (H, W) of 0 and 1 as Zhang and Suen thin it: pixel by pixel, until nothing changes."""
    left = np.pad(shape, 1).astype(int)
    changed = True
    while changed:
        changed = False
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            gone = []
            for y, x in np.argwhere(left):
                ring = [left[y + dy, x + dx] for dy, dx in AROUND]
                rises = sum(one < other for one, other in pairwise([*ring, ring[0]]))
                kept = all(ring[place] for place in first) or all(ring[place] for place in second)
                if 2 <= sum(ring) <= 6 and rises == 1 and not kept:
                    gone.append((y, x))
            changed = changed or bool(gone)
            for place in gone:
                left[place] = 0
    return left[1:-1, 1:-1].astype(np.uint8)


@pytest.mark.parametrize(("down_px", "right_px"), [(0, 0), (5, -3), (-8, 8), (0, -7)])
def test_a_shift_of_whole_pixels_is_found_and_made_good(down_px: int, right_px: int) -> None:
    wide = cv2.GaussianBlur(image(2, 112, 144), (0, 0), 1.0)
    template = wide[8:104, 8:136]
    moved = wide[8 - down_px : 104 - down_px, 8 - right_px : 136 - right_px]
    difference = Difference(tensor(template)[0], 8)
    np.testing.assert_allclose(difference.shift(tensor(moved))[0], [down_px, right_px], atol=0.1)
    assert difference(tensor(moved))[0, 0, 9:-9, 9:-9].max() < 0.02


def test_a_shift_between_pixels_is_found_as_scikit_image_finds_it() -> None:
    wide = cv2.GaussianBlur(image(3, 112, 144), (0, 0), 1.5).astype(np.float32)
    turn = np.array([[1, 0, 2.4], [0, 1, -1.7]])
    moved = cv2.warpAffine(wide, turn, (144, 112), flags=cv2.INTER_CUBIC)[8:104, 8:136]
    template = wide[8:104, 8:136]
    theirs, *_ = registration.phase_cross_correlation(moved, template, upsample_factor=20)
    got = Difference(torch.from_numpy(template.copy())[None], 8).shift(torch.from_numpy(moved.copy())[None, None])[0]
    np.testing.assert_allclose(theirs, [-1.7, 2.4], atol=0.25)
    np.testing.assert_allclose(got, [-1.7, 2.4], atol=0.25)


def test_what_shows_nothing_to_register_by_stays_where_it_is() -> None:
    template = tensor(image())[0]
    plain = torch.full((1, 1, 48, 64), 90.0)
    assert Difference(template, 8).shift(plain).abs().max() < 1e-3
    assert torch.equal(Difference(template, 0).registered(plain), plain)


def test_a_template_is_the_mean_of_registered_images() -> None:
    wide = cv2.GaussianBlur(image(4, 112, 144), (0, 0), 1.0)
    shifts_px = [(0, 0), (2, 1), (-3, 2), (1, -4)]
    good = [wide[8 + y : 104 + y, 8 + x : 136 + x] for y, x in shifts_px]
    taught = Template(shift_px=8).taught(torch.cat([tensor(frame) for frame in good]))
    assert all(taught(tensor(frame))[0, 0, 12:-12, 12:-12].max() < 0.03 for frame in good)
    missing = good[1].copy()
    missing[40:52, 50:62] = 20
    assert taught(tensor(missing))[0, 0, 42:50, 52:60].min() > 0.1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "template"])
def test_an_image_of_one_grey_level_has_finite_responses(name: str) -> None:
    (operator,) = detector.load("classical", {"operators": [{"operator": name}]})[1].operators
    for level in (0, 128, 255):
        assert torch.isfinite(operator.respond(torch.full((1, 1, 16, 16), float(level)))).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "template"])
def test_what_engines_round_differently_moves_a_response_by_as_little(name: str) -> None:
    (operator,) = detector.load("classical", {"operators": [{"operator": name}]})[1].operators
    between = torch.nn.functional.avg_pool2d(tensor(image(5, 193, 257)), 3, 2)  # as resampled frames are
    noise = torch.rand(between.shape, generator=torch.Generator().manual_seed(0)) * 2e-5
    one, other = (operator.respond(values) for values in (between, between + noise))
    cells = [torch.nn.functional.avg_pool2d(responses, 8) for responses in (one, other)]
    assert (cells[0] - cells[1]).abs().max() < 2e-5


@pytest.mark.parametrize("names", [("glcm", "template"), pytest.param(NAMES, marks=pytest.mark.slow)])
def test_every_operator_scores_alike_in_torch_and_in_the_graph(names: tuple[str, ...]) -> None:
    few: dict[str, dict[str, JsonValue]] = {  # of a kind: each step is exported
        "skeleton": {"steps": 1},
        "canny": {"steps": 1},
        "autocorrelation": {"lags_px": [2]},
    }
    operators: list[JsonValue] = [{"operator": name, **few.get(name, {})} for name in names]
    built = detector.load("classical", {"operators": operators, "side_px": 96})[0]
    frames = [image(seed, *size_px)[:, :, None] for seed, size_px in enumerate([(48, 64), (31, 517), (200, 133)])]
    encoder = built.encoder(FrameFormat(1, 48, 64))
    with torch.inference_mode():
        good = torch.cat([encoder(torch.from_numpy(image(seed)[None, :, :, None])) for seed in range(8)])
        network = Network(encoder, built.fit(good, 0, unheard))
    assert len(prove(to_onnx(network, 1), network, 1, frames, unheard).scores) == len(frames)


def test_the_worst_response_places_the_map() -> None:
    scale = torch.tensor([1.0, 10.0]).expand(2, 3, 2)
    head = Deviations(torch.zeros(2, 3, 2), scale, Whole(torch.zeros(4, 2), floor=1.0))
    features = torch.zeros(1, 2, 3, 2)
    features[0, 0, 1], features[0, 1, 2] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, -0.5])
    assert head(features)[0].tolist() == [[0.0, 3.0, 0.0], [0.0, 0.0, 5.0]]


def test_what_differs_a_little_everywhere_differs_as_a_whole() -> None:
    def frames(strength_gray: float, first: int, count: int) -> Tensor:
        noise = [
            np.random.default_rng(seed).normal(128, strength_gray, (128, 128, 1))
            for seed in range(first, first + count)
        ]
        return torch.from_numpy(np.clip(noise, 0, 255).astype(np.uint8))

    built = detector.load("classical", {})[0]
    encoder = built.encoder(FrameFormat(1, 128, 128))
    with torch.inference_mode():
        head = built.fit(encoder(frames(20, 0, 30)), 0, unheard)
        assert isinstance(head, Deviations)
        for strength_gray, unusual in ((20.0, False), (22.0, True)):
            maps = head(encoder(frames(strength_gray, 100, 10)))
            alone = head.whole(encoder(frames(strength_gray, 100, 10)))
            assert bool((alone > 6.0).all()) == unusual
            assert bool((maps.amax(dim=(1, 2)) >= alone - 1e-4).all())
            assert maps.std(dim=(1, 2)).min() > 0.1


def test_a_whole_of_which_all_good_images_say_the_same_is_no_stricter_than_its_floor() -> None:
    whole = Whole(torch.full((5, 3), 0.25), floor=0.01)
    apart = torch.tensor([0.2, 0.0, 0.0]).expand(1, 2, 2, 3)  # two deviations of the floor, in one of three
    assert whole(apart + 0.25).item() == pytest.approx(2.0 * 2.0**0.5 - 5.0**0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ([], "operators"),
        ([{"operator": "magic"}], "operators"),
        ([{"operator": "top_hat", "radius_px": 0}], "radius_px"),
        ([{"operator": "sobel", "code": "print()"}], "code"),
        ([{"operator": "canny", "low_gray": 50}], "low_gray must be at most high_gray"),
        ([{"operator": "autocorrelation", "lags_px": [16]}], "lags_px must be from 1 to 15"),
    ],
)
def test_operators_are_data_that_is_checked(operators: list[JsonValue], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        detector.load("classical", {"operators": operators})
