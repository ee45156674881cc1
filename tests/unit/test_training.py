from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from config import dataset
from config.errors import ConfigurationError, DeviceError, InputError, StoreError
from inference.bundle import Bundle
from inference.images import read_image, read_mask, stored_channels
from inference.keys import SigningKey, TrustStore
from inference.training import Evaluation, Thresholds, TrainingOptions, evaluate, report, train
from inference.training.cost import cost
from inference.training.evaluation import pixel_curves
from inference.training.good_images import GoodImages
from inference.training.progress import unheard

Write = Callable[..., Path]


def put(path: Path, value: int = 100, *, size_px: tuple[int, int] = (24, 32), colour: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size_px, 3) if colour else size_px
    noise = np.random.default_rng(value).integers(0, 9, shape)
    assert cv2.imwrite(str(path), (value + noise).astype(np.uint8))
    return path


def fill(folder: Path, count: int = 8, **how: object) -> Path:
    for value in range(count):
        put(folder / f"{value:02}.png", value, **how)
    return folder


def attempt(folder: Path, key: SigningKey, **how: object) -> Path:
    output = folder.parent / "out.andon"
    try:
        return train(TrainingOptions(images=folder, output=output, name="part", **how), key=key)
    finally:
        left = {path.name for path in folder.parent.iterdir() if path.is_file()}
        assert left <= {"out.andon"}, "nothing half-written stays"


def test_the_layout_of_mvtec_ad_is_known(tmp_path: Path) -> None:
    for name in ("train/good/1.png", "train/good/0.JPG", "test/good/0.png", "test/chip/7.png", "test/chip/8.png"):
        put(tmp_path / name)
    put(tmp_path / "ground_truth/chip/7_mask.png", colour=False)
    (tmp_path / "train/good/notes.txt").write_text("not an image")
    assert [path.name for path in dataset.training_images(tmp_path)] == ["0.JPG", "1.png"]
    samples = dataset.test_images(tmp_path)
    assert [(sample.kind, sample.path.name, sample.good) for sample in samples] == [
        ("chip", "7.png", False),
        ("chip", "8.png", False),
        ("good", "0.png", True),
    ]
    assert [sample.mask is not None for sample in samples] == [True, False, False]


def test_a_plain_folder_holds_good_images(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    assert len(dataset.training_images(tmp_path)) == 3


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder of images"):
        dataset.training_images(tmp_path / "absent")
    with pytest.raises(InputError, match="no images"):
        dataset.training_images(tmp_path)
    with pytest.raises(InputError, match="no 'test' folder"):
        dataset.test_images(tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match="test: no images"):
        dataset.test_images(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("colour", [True, False])
def test_images_come_in_the_channels_that_are_asked_for(tmp_path: Path, suffix: str, colour: bool) -> None:  # noqa: FBT001 - parametrised
    path = put(tmp_path / f"x.{suffix}", colour=colour)
    assert read_image(path, 3).shape == (24, 32, 3)
    assert read_image(path, 1).shape == (24, 32, 1)
    assert stored_channels(path) == (3 if colour or suffix == "webp" else 1)  # WebP knows no grey


def test_orientation_in_exif_is_ignored(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jpg")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: turned
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert cv2.imread(str(path)).shape == (32, 24, 3), "the file does say that it is turned"
    assert read_image(path, 3).shape == (24, 32, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp"])
def test_a_truncated_image_is_named_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    path = put(tmp_path / f"x.{suffix}")
    data = path.read_bytes()
    for share in (0.0, 0.02, 0.3, 0.7, 0.97):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=rf"x\.{suffix}: "):
            read_image(path, 3)


def test_what_follows_the_end_of_an_image_does_no_harm(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jpg")
    path.write_bytes(path.read_bytes() + b"camera 7" + bytes(200))
    assert read_image(path, 3).shape == (24, 32, 3)


def test_masks_are_white_where_the_defect_is(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 2] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    assert np.argwhere(read_mask(tmp_path / "m.png")).tolist() == [[1, 2]]


def test_too_few_images_say_how_many_it_takes(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(InputError, match="7 good images, and at least 8 are needed"):
        attempt(fill(tmp_path / "parts", 7), key)


def test_every_unusable_image_is_named(tmp_path: Path, key: SigningKey) -> None:
    folder = fill(tmp_path / "parts", 12)
    whole = (folder / "03.png").read_bytes()
    (folder / "03.png").write_bytes(whole[: len(whole) // 2])
    (folder / "05.png").write_bytes(b"no image")
    (folder / "07.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"3 images cannot be used: .*03\.png: .*05\.png: .*07\.png: "):
        attempt(folder, key)
    with pytest.raises(InputError, match="3 images cannot be used"):
        attempt(folder, key, channels=3)
    for value in range(8):
        (folder / f"{value:02}.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"8 images cannot be used: .*; and 3 more"):
        attempt(folder, key)


def test_grey_and_colour_together_are_refused_until_one_is_chosen(tmp_path: Path, key: SigningKey) -> None:
    folder = fill(tmp_path / "parts", 8)
    put(folder / "grey.png", colour=False)
    with pytest.raises(InputError, match=r"1 grey images \(as grey\.png\) and 8 in colour .*channels = 1 or 3"):
        attempt(folder, key)
    assert GoodImages.read(folder, 1, 8, unheard)[0].shape == (24, 32, 1)
    assert GoodImages.read(folder, 3, 8, unheard)[8].shape == (24, 32, 3)


def test_images_of_different_sizes_are_known_by_their_smallest_and_usual_size(tmp_path: Path) -> None:
    folder = fill(tmp_path / "parts", 8)
    put(folder / "wide.png", size_px=(20, 90))
    images = GoodImages.read(folder, None, 8, unheard)
    assert (images.format, images.usual_shape_px) == ((3, 20, 32), (24, 32))


def test_the_data_digest_is_that_of_the_pixels(tmp_path: Path) -> None:
    first = GoodImages.read(fill(tmp_path / "one"), None, 8, unheard).digest
    assert GoodImages.read(fill(tmp_path / "other"), None, 8, unheard).digest == first
    put(tmp_path / "other" / "03.png", 77)
    assert GoodImages.read(tmp_path / "other", None, 8, unheard).digest != first


def test_wrong_choices_are_told_before_any_work(tmp_path: Path, key: SigningKey) -> None:
    folder = fill(tmp_path / "parts")
    with pytest.raises(ConfigurationError, match=r"no inference.detectors plug-in is named 'crystal_ball'"):
        attempt(folder, key, detector="crystal_ball")
    with pytest.raises(ConfigurationError, match="options of detector patchcore: bank: "):
        attempt(folder, key, options={"bank": 0})
    with pytest.raises(ConfigurationError, match="there is no folder"):
        train(TrainingOptions(images=folder, output=tmp_path / "no" / "x.andon", name="part"), key=key)


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('not installed')")
    code = (
        "from pathlib import Path\nfrom inference.training import TrainingOptions, train\n"
        "train(TrainingOptions(images=Path('.'), output=Path('x'), name='x'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "MissingExtraError: training needs the 'train' extra" in done.stderr


@pytest.fixture
def judged(tmp_path: Path, write_brightness: Write, trust: TrustStore) -> Callable[..., Evaluation]:
    """Judge good parts of brightness 0.1 to 0.55 and bad ones that are bright in one corner."""
    for place, value in enumerate((25, 50, 100, 140)):
        path = tmp_path / "data" / "test" / "good" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((6, 8), value, np.uint8))
    for kind, values in (("chip", (120, 160, 250)), ("stain", (130,))):
        for place, value in enumerate(values):
            frame, mask = np.full((6, 8), 25, np.uint8), np.zeros((6, 8), np.uint8)
            frame[:2, :2], mask[:2, :2] = value, 255
            for path, picture in (
                (tmp_path / "data" / "test" / kind / f"{place}.png", frame),
                (tmp_path / "data" / "ground_truth" / kind / f"{place}_mask.png", mask),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), picture)
    opened = Bundle.open(write_brightness(), trust)
    return lambda **how: evaluate(opened, tmp_path / "data", **how)


def test_an_evaluation_counts_what_the_thresholds_do(judged: Callable[..., Evaluation]) -> None:
    told: list[tuple[str, int, int]] = []
    result = judged(progress=lambda *step: told.append(step))
    assert (result.review_above, result.reject_above) == (0.5, 0.7)  # the calibrated ones
    assert [(image.kind, image.verdict) for image in result.images] == [
        ("chip", "PASS"),
        ("chip", "REVIEW"),
        ("chip", "REJECT"),
        ("good", "PASS"),
        ("good", "PASS"),
        ("good", "PASS"),
        ("good", "REVIEW"),
        ("stain", "REVIEW"),
    ]
    assert (result.false_rejects.events, result.false_rejects.parts) == (1, 4)
    assert (result.good_rejected.events, result.escapes.events, result.bad_reviewed.events) == (0, 1, 2)
    assert result.false_rejects.low < 0.25 < result.false_rejects.high
    assert result.image_auroc == (3 + 4 + 4 + 3) / 16
    assert result.pixel_auroc == pytest.approx(0.949, abs=0.05)
    chip, good, stain = result.kinds
    assert (chip.parts, chip.passed, chip.reviewed, chip.rejected, chip.auroc) == (3, 1, 1, 1, 11 / 12)
    assert (good.kind, good.auroc, stain.auroc) == ("good", None, 0.75)
    assert told[-1] == ("evaluate", 8, 8)
    assert result.bundle_bytes > 0


def test_what_a_bundle_costs_is_measured_in_a_process_of_its_own(write_brightness: Write, trust: TrustStore) -> None:
    opened = Bundle.open(write_brightness(), trust)
    measured = cost(opened, threads=1)
    assert 0 < measured.ms_per_image < 1000
    assert 0 < measured.ms_per_image_of_16 < 1000
    assert 0 < measured.resident_bytes < 100e6
    with pytest.raises(DeviceError, match=r"its cost cannot be measured: .*BundleError"):
        cost(dataclasses.replace(opened, model=b"no graph"), threads=1)


def test_an_evaluation_tells_what_would_escape_at_other_rates(judged: Callable[..., Evaluation]) -> None:
    tenth = judged().operating[0]
    assert (tenth.rate, tenth.false_rejects.events, tenth.false_rejects.parts) == (0.001, 0, 4)
    assert tenth.above == pytest.approx(140 / 255)  # the brightest good part
    assert (tenth.escapes.events, tenth.escapes.parts) == (2, 4)


def test_test_images_that_show_a_training_image_are_named(
    tmp_path: Path, write_brightness: Write, trust: TrustStore
) -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (90, 120), np.uint8) for _ in range(12)]
    darker = (frames[3] * 0.5 + 20).astype(np.uint8)
    for folder, kept in (("train/good", frames[:10]), ("test/good", [frames[10], darker]), ("test/bad", frames[11:])):
        (tmp_path / folder).mkdir(parents=True)
        for place, frame in enumerate(kept):
            cv2.imwrite(str(tmp_path / folder / f"{place}.png"), frame)
    (leak,) = evaluate(Bundle.open(write_brightness(), trust), tmp_path).leaks
    assert (leak.test, leak.training) == (tmp_path / "test/good/1.png", tmp_path / "train/good/3.png")
    assert leak.similarity > 0.9


def test_other_thresholds_count_instead(judged: Callable[..., Evaluation]) -> None:
    result = judged(thresholds=Thresholds(0.01, 0.02))
    assert (result.false_rejects.events, result.good_rejected.events, result.escapes.events) == (4, 4, 0)


def test_the_same_image_scores_alike_in_evaluation_and_engine(judged: Callable[..., Evaluation]) -> None:
    for image in judged().images:
        assert image.score == pytest.approx(read_image(image.path, 1).max() / 255)


def test_a_report_stands_alone_shows_what_was_judged_wrong_and_runs_no_script(
    judged: Callable[..., Evaluation], tmp_path: Path, write_brightness: Write, trust: TrustStore
) -> None:
    odd = tmp_path / "data" / "test" / "<script>alert(1)<"
    odd.mkdir()
    cv2.imwrite(str(odd / "0.png"), np.full((6, 8), 30, np.uint8))
    html, markdown = report.write(tmp_path / "report", judged(), Bundle.open(write_brightness(), trust))
    page = html.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert "Worst false rejects" in page
    assert "Worst escapes" in page
    assert page.count("data:image/png;base64,") == 3  # one false reject, two escapes
    assert page.count("data:image/svg+xml;base64,") == 2
    text = markdown.read_text()
    assert "| false rejects (good parts that did not pass) | 1 of 4 (0.6–80.6 %) |" in text  # noqa: RUF001 - a range
    for name in re.findall(r"\]\((.+?)\)", text):
        assert (tmp_path / "report" / name).stat().st_size > 0
    pictures = sorted((tmp_path / "report" / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["bad-0.png", "bad-1.png", "good-0.png"]
    assert cv2.imread(str(pictures[0])).shape == (240, 640, 3)


def test_a_report_that_cannot_be_written_says_so(
    judged: Callable[..., Evaluation], tmp_path: Path, write_brightness: Write, trust: TrustStore
) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(StoreError, match="report"):
        report.write(tmp_path / "report", judged(), Bundle.open(write_brightness(), trust))


def test_a_detector_that_says_no_place_has_no_pixel_areas(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), np.eye(8, dtype=np.uint8) * 255)
    samples = [dataset.Sample(tmp_path / "part.png", "chip", tmp_path / "mask.png")]
    told = [pixel_curves(samples, [np.ones((side, side), np.float32)]).auroc() for side in (1, 2)]
    assert told == [None, 0.5]
