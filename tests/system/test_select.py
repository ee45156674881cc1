"""`andon select`: tried, told, gone on with, and chosen, by the command that people use."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.cli import main
from inference.bundle import Bundle
from inference.keys import TrustStore


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give 10 good parts to learn from, 5 good and 5 scratched ones to judge."""
    monkeypatch.setenv("ANDON_KEYS", str(tmp_path / "keys"))
    rng = np.random.default_rng(0)
    for kind, count in (("train/good", 10), ("test/good", 5), ("test/scratch", 5)):
        folder = tmp_path / "parts" / kind
        folder.mkdir(parents=True)
        for number in range(count):
            frame = np.full((64, 64), 120, np.uint8)
            cv2.circle(frame, (32, 32), 16, 200, -1)
            if kind == "test/scratch":
                cv2.line(frame, (20, 24), (44, 40), 20, 3)
            frame = np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), frame)
    return tmp_path / "parts"


def test_two_candidates_are_tried_once_and_one_is_chosen(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        "select",
        "--data",
        str(data),
        "--out",
        str(out),
        "--json",
        "--detectors",
        "patchcore-fast,patchcore-light",
    ]
    assert main([*words, "--min-side", "180"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["chosen"], found["good"], found["bad"]) == ("patchcore-light", 5, 5)
    assert {outcome["candidate"]["variant"]: outcome["why"] for outcome in found["outcomes"]} == {
        "fast": "looks at 160 px, less than 180",
        "light": None,
    }
    assert Bundle.open(out / "patchcore-light.andon", TrustStore.load()).manifest.images == 10
    assert "Take patchcore-light" in (out / "select.html").read_text(encoding="utf-8")
    assert "patchcore-fast: over the limits: looks at 160 px" in (out / "select.md").read_text(encoding="utf-8")

    made_ns = {path.name: path.stat().st_mtime_ns for path in out.glob("patchcore-*")}
    assert main([*words, "--min-side", "1000"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["chosen"] is None
    assert "patchcore-light: over the limits: looks at 192 px, less than 1000" in told.err
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("patchcore-*")} == made_ns, "nothing is done again"
