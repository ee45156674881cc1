"""Learning from a few images, and learning on with new ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from config.errors import BundleError, ConfigurationError, InputError
from inference.bundle import Bundle
from inference.engine import Engine
from inference.images import Frame
from inference.keys import SigningKey, TrustStore
from inference.training import Augmentation, TrainingOptions, detector, train, updating
from inference.training.augmentation import augmented
from inference.training.calibration import calibrate
from inference.training.good_images import GoodImages
from inference.training.learning import examine, fit
from inference.training.progress import unheard

OPTIONS = {"size_px": 96, "bank": 300}
JIGGLE = Augmentation(shift_px=3, brightness_percent=5, copies=4)


def part(seed: int, kind: str = "plain") -> Frame:
    random = np.random.default_rng(seed)
    frame = cv2.GaussianBlur(random.normal(110, 50, (80, 80)), (0, 0), 2)
    cv2.circle(frame, (40, 40), 22, 190, -1)
    if kind == "labelled":
        cv2.rectangle(frame, (30, 32), (50, 48), 255, -1)
        cv2.line(frame, (34, 46), (46, 34), 0, 2)
    if kind == "bad":
        cv2.line(frame, (25, 30), (55, 50), 15, 3)
    return np.asarray(np.clip(frame + random.normal(0, 4, frame.shape), 0, 255), np.uint8)


def fill(folder: Path, seeds: range, kind: str = "plain") -> Path:
    folder.mkdir()
    for seed in seeds:
        cv2.imwrite(str(folder / f"{seed:03}.png"), part(seed, kind))
    return folder


def asked(folder: Path, output: Path | None = None, **how: object) -> TrainingOptions:
    return TrainingOptions(images=folder, output=output, name="part", options=OPTIONS, **how)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_images_and_their_copies_tell_a_defect(tmp_path: Path, count: int) -> None:
    fitted = examine(asked(fill(tmp_path / "few", range(count)), augment=JIGGLE), unheard).fitted
    calibration = calibrate(fitted.held_out_scores, 0.01, copies=fitted.copies)
    with torch.inference_mode():
        bad = float(fitted.network(torch.from_numpy(part(99, "bad")[None, :, :, None]))[0])
    assert bad > calibration.review_above
    if count == 1:
        assert (fitted.copies, len(fitted.held_out_scores)) == (True, 5)
        assert (calibration.held_out_images, calibration.alpha_upper, calibration.more_images) == (0, 1.0, 473)
    else:
        assert (fitted.copies, fitted.held_out) == (False, tuple(range(count)))
        assert calibration.alpha_upper == pytest.approx(1 - 0.05 ** (1 / count))
        assert calibration.more_images == 473 - count


@pytest.mark.slow
def test_a_single_image_makes_a_bundle_that_says_what_it_cannot_promise(
    tmp_path: Path, key: SigningKey, trust: TrustStore
) -> None:
    output = train(asked(fill(tmp_path / "one", range(1)), tmp_path / "one.andon", augment=JIGGLE), key=key)
    opened = Bundle.open(output, trust)
    assert (opened.manifest.images, opened.manifest.calibration.alpha_upper) == (1, 1.0)
    Engine(opened).check_golden()


def test_without_copies_a_few_images_are_refused_and_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 good images, and at least 8 are needed; fewer .* copies .*augment"):
        examine(asked(fill(tmp_path / "few", range(3))), unheard)


def test_copies_stay_within_what_was_permitted_and_are_the_same_again() -> None:
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[10:20, 20:30] = (50, 100, 150)
    how = Augmentation(shift_px=5, copies=30)
    copies = augmented(frame, how, seed=3)
    places = {tuple(np.argwhere(copy[:, :, 0])[0] - (10, 20)) for copy in copies}
    assert len(places) > 10
    assert all(max(abs(down), abs(right)) <= 5 for down, right in places)
    assert all(copy.shape == frame.shape and sorted(np.unique(copy)) == [0, 50, 100, 150] for copy in copies)
    assert all(np.array_equal(*pair) for pair in zip(copies, augmented(frame, how, seed=3), strict=True))
    assert not np.array_equal(copies[0], augmented(frame, how, seed=4)[0])
    lit = [int(copy.max()) for copy in augmented(frame, Augmentation(brightness_percent=10, copies=30), 0)]
    assert 135 <= min(lit) < 150 < max(lit) <= 165
    mirrored = augmented(frame, Augmentation(flip="horizontal", copies=30), 0)
    assert {copy.tobytes() for copy in mirrored} == {frame.tobytes(), np.ascontiguousarray(frame[:, ::-1]).tobytes()}
    turned = augmented(frame, Augmentation(rotate_deg=10, copies=5), 0)
    assert all(copy[15, 25].tolist() == [50, 100, 150] for copy in turned)
    with pytest.raises(ValueError, match="changes nothing"):
        Augmentation(copies=5)


def test_copies_are_held_out_with_their_image(tmp_path: Path) -> None:
    images = GoodImages.read(fill(tmp_path / "some", range(8)), None, 8, unheard)
    built = detector.load("patchcore", dict(OPTIONS))[0]
    nothing = Augmentation(shift_px=1, copies=2)
    plain, copied = (fit(built, images, 8, 0, unheard, how) for how in (None, nothing))
    # a copy that stayed behind would be the nearest of all: the scores would fall to nearly nothing
    assert np.median(copied.held_out_scores) > 0.7 * np.median(plain.held_out_scores)


class TestLearningOn:
    @pytest.fixture(scope="class")
    @classmethod
    def taught(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("on")
        key = SigningKey.load(folder / "keys")
        fill(folder / "old", range(10))
        fill(folder / "new", range(50, 56), "labelled")
        first = train(asked(folder / "old", folder / "first.andon"), key=key)
        parent = Bundle.open(first, TrustStore.load(folder / "keys"))
        train(asked(folder / "new", folder / "second.andon"), key=key, parent=parent)
        return folder

    @staticmethod
    def opened(folder: Path, name: str) -> Bundle:
        return Bundle.open(folder / f"{name}.andon", TrustStore.load(folder / "keys"))

    def test_new_ways_to_be_good_pass_and_the_old_ones_still_do(self, taught: Path) -> None:
        first, second = self.opened(taught, "first"), self.opened(taught, "second")
        old, new = (
            np.stack([part(seed, kind)[:, :, None] for seed in range(80, 84)]) for kind in ("plain", "labelled")
        )
        before, after = Engine(first), Engine(second)
        limit = first.manifest.calibration.review_above
        assert before.infer(new)[0].min() > limit, "the first bundle has never seen such parts"
        assert after.infer(new)[0].max() < before.infer(new)[0].min()
        assert np.mean(after.infer(new)[0] <= second.manifest.calibration.review_above) >= 0.5
        assert after.infer(old)[0] == pytest.approx(before.infer(old)[0], rel=0.15)
        bad = np.stack([part(90, "bad")[:, :, None]])
        assert after.infer(bad)[0][0] > second.manifest.calibration.review_above

    def test_the_bundle_says_where_it_comes_from_and_is_calibrated_by_old_and_new(self, taught: Path) -> None:
        first, second = self.opened(taught, "first"), self.opened(taught, "second")
        assert (first.manifest.parent, second.manifest.parent) == (None, first.digest)
        assert (second.manifest.images, second.manifest.calibration.held_out_images) == (16, 16)
        assert second.manifest.held_out_scores[:10] == first.manifest.held_out_scores
        assert second.manifest.calibration.review_above >= first.manifest.calibration.held_out_median
        assert second.manifest.metrics["parity"] <= 1e-4

    def test_without_new_features_the_bank_is_what_it_was(self, taught: Path) -> None:
        first = self.opened(taught, "first")
        state = updating.weights(first.model)
        built = detector.load("patchcore", dict(OPTIONS))[0]
        assert isinstance(built, updating.Updatable)
        again = built.update(state, torch.zeros((0, 12, 12, state["bank"].shape[1])), 0, unheard)
        kept = {row.numpy().tobytes() for row in again.get_buffer("bank") + again.get_buffer("centre")}
        assert 250 < len(kept) <= 301
        frame = torch.from_numpy(part(80)[None, :, :, None])
        encoder = built.encoder(detector.FrameFormat(1, 80, 80)).eval()
        with torch.inference_mode():
            found = again(encoder(frame))[0]
        assert found.numpy() == pytest.approx(Engine(first).infer(frame.numpy())[1][0], rel=2e-2, abs=0.05)

    def test_an_option_that_came_after_the_bundle_had_its_default(self, taught: Path) -> None:
        first = self.opened(taught, "first")
        before = {name: value for name, value in first.manifest.options.items() if name != "even_light"}
        manifest = first.manifest.model_copy(update={"options": before})
        old = Bundle(manifest, first.model, first.golden_frames, first.digest, first.public_key, first.size_bytes)
        for even_light in (False, True):
            built, options = detector.load("patchcore", dict(OPTIONS) | {"even_light": even_light})
            if even_light:
                with pytest.raises(ConfigurationError, match=r"other options \(even_light\)"):
                    updating.check(built, "patchcore", options.model_dump(mode="json"), old)
            else:
                assert "bank" in updating.check(built, "patchcore", options.model_dump(mode="json"), old)

    def test_what_cannot_be_carried_on_is_told(self, taught: Path, key: SigningKey) -> None:
        first = self.opened(taught, "first")
        other = asked(taught / "new", taught / "x.andon").model_copy(update={"options": OPTIONS | {"bank": 100}})
        with pytest.raises(ConfigurationError, match=r"other options \(bank\)"):
            train(other, key=key, parent=first)
        manifest = first.manifest.model_copy(update={"held_out_scores": ()})
        old = Bundle(manifest, first.model, first.golden_frames, first.digest, first.public_key, first.size_bytes)
        with pytest.raises(BundleError, match="does not hold the scores that it was calibrated by"):
            train(asked(taught / "new", taught / "x.andon"), key=key, parent=old)
