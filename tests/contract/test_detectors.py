"""What every file in inference/detectors must keep to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydantic import JsonValue

from config import plugins
from inference.bundle import Bundle
from inference.engine import Engine
from inference.images import Frame
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, detector, train
from inference.training.export import prove, to_onnx
from inference.training.good_images import GoodImages
from inference.training.learning import Fitted, fit
from inference.training.progress import unheard

NAMES = plugins.names("inference.detectors")
HEIGHT_PX, WIDTH_PX = 72, 96
IMAGES = 8
_SPOKEN_FOR = {"dfkde", "dfm", "fre", "mahalanobis", "padim", "spade"}


def slow_where_it_takes_minutes(name: str) -> Sequence[pytest.MarkDecorator]:
    return [pytest.mark.slow] if detector.summary(name).fitting == "minutes" else []


def slow_unless_it_speaks_for_its_like(name: str) -> Sequence[pytest.MarkDecorator]:
    """Of each kind one or two are tried in every run, all of them in the long ones: ten minutes are few.

    `dn2` speaks for what pools features, `patchcore` for what looks at a grid.
    """
    if name in _SPOKEN_FOR:
        return [pytest.mark.slow]
    return [] if name == "reverse_distillation" else slow_where_it_takes_minutes(name)


def slow_unless_its_graph_is_unlike_others(name: str) -> Sequence[pytest.MarkDecorator]:
    """In every run the graph of colour frames is proven of each detector; that of grey ones takes as long again.

    `patchcore`'s of grey ones is proven by tests/unit/test_same_pixels.py as well, in every run.
    """
    return [] if name == "classical" else [pytest.mark.slow]


def part(seed: int, height_px: int = HEIGHT_PX, width_px: int = WIDTH_PX, *, scratch: bool = False) -> Frame:
    """Return a grey-blue part (H, W, 3) with a disc and a bar, slightly different for every seed."""
    rng = np.random.default_rng(seed)
    frame = np.full((height_px, width_px, 3), (120, 100, 90), np.uint8)
    x_px, y_px = width_px // 2 + int(rng.integers(-2, 3)), height_px // 2 + int(rng.integers(-2, 3))
    cv2.circle(frame, (x_px, y_px), height_px // 4, (200, 190, 180), -1)
    cv2.rectangle(frame, (x_px - width_px // 3, y_px - 2), (x_px + width_px // 3, y_px + 2), (60, 60, 70), -1)
    if scratch:
        cv2.line(frame, (x_px - 15, y_px - 20), (x_px + 18, y_px + 14), (20, 20, 250), 3)
    return np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    for kind in ("colour", "grey"):
        (root / kind).mkdir()
    for seed in range(IMAGES):
        cv2.imwrite(str(root / "colour" / f"{seed}.png"), part(seed))
        # of different sizes: a folder need not be uniform
        grey = cv2.cvtColor(part(seed, HEIGHT_PX + seed, WIDTH_PX - seed), cv2.COLOR_BGR2GRAY)
        cv2.imwrite(str(root / "grey" / f"{seed}.png"), grey)
    return root


class Trained:
    """A bundle trained on the colour parts, opened, and what was told meanwhile."""

    def __init__(self, name: str, folder: Path) -> None:
        self.told: dict[str, list[tuple[int, int]]] = defaultdict(list)
        options = TrainingOptions(
            images=folder / "colour",
            output=folder / f"{name}.andon",
            name=name,
            detector=name,
            options=dict(quick(name)),
            folds=folds_of(name),
        )
        train(options, lambda stage, done, total: self.told[stage].append((done, total)), SigningKey.load(folder))
        self.bundle = Bundle.open(options.output, TrustStore.load(folder))
        self.engine = Engine(self.bundle)


@pytest.fixture(scope="module")
def trained(folder: Path) -> object:
    return cache(lambda name: Trained(name, folder))


@pytest.fixture(params=[pytest.param(name, marks=slow_unless_it_speaks_for_its_like(name)) for name in NAMES])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def subject(name: str, trained: object) -> Trained:
    return trained(name)  # type: ignore[operator, no-any-return] # functools.cache has no type that can be named


def quick(name: str) -> dict[str, JsonValue]:
    """Return options for what takes minutes to learn: the parts are no larger."""
    return {"size_px": 64} if detector.summary(name).fitting == "minutes" else {}


def folds_of(name: str) -> int:
    return min(2, detector.load(name, {})[0].folds)


def fit_again(name: str, folder: Path, kind: str = "colour", seed: int = 0) -> Fitted:
    images = GoodImages.read(folder / kind, None, IMAGES, unheard)
    return fit(detector.load(name, quick(name))[0], images, folds_of(name), seed, unheard)


def test_there_are_detectors() -> None:
    assert "patchcore" in NAMES


def test_the_bundle_is_sealed_complete_and_passes_its_golden_frames(name: str, subject: Trained) -> None:
    manifest = subject.bundle.manifest
    assert (manifest.detector, manifest.channels, manifest.images) == (name, 3, IMAGES)
    assert (manifest.frame_height_px, manifest.frame_width_px) == (HEIGHT_PX, WIDTH_PX)
    assert manifest.options == detector.load(name, dict(manifest.options))[1].model_dump(mode="json")
    assert manifest.metrics["parity"] <= 1e-4
    assert subject.bundle.golden_frames[0].shape == (HEIGHT_PX, WIDTH_PX, 3)
    subject.engine.check_golden()


def test_the_score_is_the_maximum_of_the_map(subject: Trained) -> None:
    frames = np.stack([part(100), part(101, scratch=True)])
    scores, maps = subject.engine.infer(frames)
    assert scores.dtype == maps.dtype == np.float32
    assert maps.shape == (2, subject.bundle.manifest.map_height, subject.bundle.manifest.map_width)
    assert np.array_equal(scores, maps.max(axis=(1, 2)))


def test_a_defect_scores_higher_than_any_good_part_and_is_found_where_it_is(name: str, subject: Trained) -> None:
    good = subject.engine.infer(np.stack([part(seed) for seed in range(100, 108)]))[0]
    scores, maps = subject.engine.infer(part(101, scratch=True)[None])
    assert scores[0] > good.max()
    if not detector.summary(name).localises:
        assert maps.shape == (1, 1, 1)
        return
    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    y_px, x_px = (row + 0.5) / maps.shape[1] * HEIGHT_PX, (column + 0.5) / maps.shape[2] * WIDTH_PX
    assert abs(y_px - HEIGHT_PX / 2) < HEIGHT_PX / 3
    assert abs(x_px - WIDTH_PX / 2) < WIDTH_PX / 3


def test_the_same_frame_scores_alike_in_any_batch(subject: Trained) -> None:
    frames = np.stack([part(seed, scratch=seed % 3 == 0) for seed in range(100, 116)])
    together, maps = subject.engine.infer(frames)
    scale = float(np.abs(together).max())
    for index in range(16):
        alone, alone_map = subject.engine.infer(frames[index : index + 1])
        assert abs(alone[0] - together[index]) <= 1e-6 * scale
        assert np.abs(alone_map[0] - maps[index]).max() <= 1e-6 * scale


def test_the_same_images_and_seed_give_the_same_scores(name: str, subject: Trained, folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = fit_again(name, folder)
    assert torch.equal(torch.rand(3), expected), "torch's own chance is not left as it was"
    assert again.held_out_scores == subject.bundle.manifest.held_out_scores
    frame = part(101, scratch=True)
    with torch.inference_mode():
        score = float(again.network(torch.from_numpy(frame)[None])[0])
    assert subject.engine.infer(frame[None])[0][0] == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow_unless_its_graph_is_unlike_others(name)) for name in NAMES]
)
def test_grey_frames_of_any_size_score_alike_in_torch_and_in_the_graph(name: str, folder: Path) -> None:
    network = fit_again(name, folder, "grey").network
    sizes_px = [(HEIGHT_PX, WIDTH_PX), (48, 40), (200, 333), (31, 517)]
    frames = [cv2.cvtColor(part(7, *size_px), cv2.COLOR_BGR2GRAY)[:, :, None] for size_px in sizes_px]
    proof = prove(to_onnx(network, 1), network, 1, frames, unheard)
    assert len(proof.scores) == len(frames)
    assert all(np.isfinite(proof.scores))


def test_every_stage_tells_how_far_it_is(subject: Trained) -> None:
    assert {"read", "features", "calibrate", "export", "prove"} <= subject.told.keys()
    for stage, steps in subject.told.items():
        assert steps[-1][0] == steps[-1][1], stage
        assert all(0 <= done <= total for done, total in steps), stage


def test_unknown_options_are_named(name: str) -> None:
    with pytest.raises(plugins.ConfigurationError, match=f"options of detector {name}: flavour: unknown field"):
        detector.load(name, {"flavour": "vanilla"})


def test_what_a_detector_says_of_itself(name: str) -> None:
    built = detector.load(name, {})[0]
    assert all(isinstance(licence, str) and licence for licence in built.licences)
    assert 1 <= built.minimum_images <= detector.summary(name).images
    assert built.folds in {detector.CROSS_FIT, detector.HOLD_OUT}
    for option, field in type(detector.load(name, {})[1]).model_fields.items():
        assert field.description, f"option {option} says nothing of itself"


def test_one_fifth_is_held_out_where_one_fit_is_all_there_is(name: str, folder: Path) -> None:
    images = GoodImages.read(folder / "colour", None, IMAGES, unheard)
    fitted = fit(detector.load(name, quick(name))[0], images, detector.HOLD_OUT, 0, unheard)
    assert len(fitted.held_out) == len(fitted.held_out_scores) == 1
    with torch.inference_mode():
        score = float(fitted.network(torch.from_numpy(images[fitted.held_out[0]])[None])[0])
    assert fitted.held_out_scores[0] == pytest.approx(score, rel=1e-5)


def test_parts_that_are_all_alike_are_learnt_without_a_number_that_is_none(name: str, tmp_path: Path) -> None:
    for number in range(IMAGES):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8))
    images = GoodImages.read(tmp_path, None, IMAGES, unheard)
    fitted = fit(detector.load(name, quick(name))[0], images, folds_of(name), 0, unheard)
    assert np.isfinite(fitted.held_out_scores).all()
    with torch.inference_mode():
        white = torch.full((1, HEIGHT_PX, WIDTH_PX, 1), 255, dtype=torch.uint8)
        assert torch.isfinite(fitted.network(white)[1]).all()
