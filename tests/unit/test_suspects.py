"""What `andon train` says of good images that are not like the others, or too much like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.errors import InputError
from deploy.cli import main
from inference.bundle import Bundle
from inference.images import Frame
from inference.keys import TrustStore
from inference.training.calibration import folds
from inference.training.good_images import GoodImages
from inference.training.leaks import alike, detail
from inference.training.progress import unheard

SMALL = ("--option", "size_px=96", "--option", "bank=200")


def part(seed: int, *, bad: bool = False) -> Frame:
    random = np.random.default_rng(seed)
    frame = cv2.GaussianBlur(random.normal(110, 60, (80, 80)), (0, 0), 2)  # a grain that no two parts share
    cv2.circle(frame, (40 + int(random.integers(-2, 3)), 40 + int(random.integers(-2, 3))), 22, 190, -1)
    if bad:
        cv2.rectangle(frame, (30, 34), (52, 44), 20, -1)
    return np.asarray(np.clip(frame + random.normal(0, 4, frame.shape), 0, 255), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    for seed in range(16):
        cv2.imwrite(str(tmp_path / "parts" / f"{seed:02}.png"), part(seed, bad=seed == 11))
    cv2.imwrite(
        str(tmp_path / "parts" / "again.png"), np.clip(part(4).astype(float) * 0.9 + 8, 0, 255).astype(np.uint8)
    )
    return tmp_path / "parts"


@pytest.fixture
def andon(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `andon train --data FOLDER …`; give the exit code and what was written to stdout and stderr."""
    monkeypatch.setenv("ANDON_KEYS", str(tmp_path / "keys"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["train", "--data", str(folder), *SMALL, *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_odd_image_and_the_doubled_one_are_named_before_a_bundle_is_made(
    andon: Callable[..., tuple[int, str, str]], folder: Path, tmp_path: Path
) -> None:
    code, said, _ = andon("--check", "--json", "--report", tmp_path / "report")
    found = json.loads(said)
    assert code == 1
    assert [Path(one["image"]).name for one in found["outlying"]] == ["11.png"]
    assert [(Path(one["image"]).name, Path(one["like"]).name) for one in found["alike"]] == [("again.png", "04.png")]
    assert found["review_above"] == found["outlying"][0]["score"] > found["limit"] > found["review_above_without"]
    page = (tmp_path / "report" / "suspects.html").read_text()
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 1 + 6 + 1  # the odd one, the six least usual, the pair
    code, said, _ = andon("--check", "--leave-out", "11.png", "--leave-out", folder / "again.png")
    assert (code, "nothing to look at" in said) == (0, True), said


def test_a_bundle_tells_what_it_was_learnt_from_all_the_same(
    andon: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, told = andon("--out", tmp_path / "x.andon", "--leave-out", "again.png")
    manifest = Bundle.open(tmp_path / "x.andon", TrustStore.load(tmp_path / "keys")).manifest
    assert (code, manifest.outlying, manifest.alike, manifest.left_out) == (0, ("11.png",), 0, ("again.png",))
    assert len(manifest.held_out_scores) == manifest.images == 16
    assert "warning: 1 good images are unlike the others: 11.png" in told
    assert "--leave-out" in told
    assert "1.00% asked for; at most 17.07% with 95 % confidence, by 16 held-out good images" in told
    assert "about 457 more good images promise 1.00%" in told


def test_only_an_image_that_is_there_can_be_left_out(folder: Path) -> None:
    with pytest.raises(InputError, match=r"there is no image 99\.png that could be left out"):
        GoodImages.read(folder, None, 8, unheard, ["99.png", "03.png"])
    assert len(GoodImages.read(folder, None, 8, unheard, ["03.png"])) == 16


def test_images_that_are_alike_are_held_out_together() -> None:
    parts = folds(23, 5, seed=1, alike=[(3, 9), (9, 14), (0, 22)])
    assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert any({3, 9, 14} <= set(part.tolist()) for part in parts)
    assert any({0, 22} <= set(part.tolist()) for part in parts)
    chain = folds(20, 5, seed=1, alike=[(place, place + 1) for place in range(19)])
    assert sorted(np.concatenate(chain).tolist()) == list(range(20))
    assert [len(part) for part in chain] == [4] * 5, "a chain of all is no reason to hold out all"
    (held,) = folds(20, 1, seed=1, alike=[(2, 3)])
    assert len(held) in {4, 5}
    assert (2 in held) == (3 in held)


def test_of_a_few_images_only_the_same_pixels_are_alike() -> None:
    frames = [part(0)[:, :, None], part(1)[:, :, None], part(0)[:, :, None]]
    assert [(pair.first, pair.second) for pair in alike([detail(frame) for frame in frames])] == [(0, 2)]
    assert alike([detail(part(seed)[:, :, None]) for seed in range(12)]) == []
