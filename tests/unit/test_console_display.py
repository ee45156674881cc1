"""Numbers, words and colours as pages write them: everything that can happen has its word."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.errors import StoreError
from config.messages import GateCommand, GateOutcome, Judgement, Reason
from storage.console import display, thumbnail
from storage.console.api import _quantised

STATIC = Path(display.__file__).parent / "static"


def test_every_message_word_can_be_shown() -> None:
    assert set(display.WORDS) == set(Judgement)
    assert set(display.REASONS) == set(Reason)
    assert set(display.COMMANDS) == set(GateCommand)
    assert set(display.OUTCOMES) == set(GateOutcome)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "\u2013"), (0.12345, "0.123"), (-3.5, "-3.500"), (123.456, "123.46"), (4321.0, "4321.0")],
)
def test_scores(value: float | None, shown: str) -> None:
    assert display.score(value) == shown


def test_counts_and_durations() -> None:
    assert display.count(1234567) == "1\u202f234\u202f567"
    assert display.milliseconds(12.345) == "12.3 ms"


def test_map_levels_are_within_half_a_step_of_the_scores() -> None:
    scores = np.random.default_rng(1).normal(2, 1, (7, 9)).astype(np.float16)
    low, high, levels = _quantised(scores)
    assert levels.shape == (7, 9)
    again = low + levels.astype(np.float64) / 255 * (high - low)
    assert np.abs(again - scores).max() <= (high - low) / 255 / 2 + 1e-6


@pytest.mark.parametrize("fill", [np.nan, 1.0])
def test_flat_or_empty_maps_are_level_zero(fill: float) -> None:
    _, _, levels = _quantised(np.full((2, 2), fill, np.float16))
    assert not levels.any()


def test_infinite_scores_are_clipped() -> None:
    low, high, levels = _quantised(np.array([[1, 2], [np.inf, -np.inf]], np.float16))
    assert (low, high) == (1, 2)
    assert levels.tolist() == [[0, 255], [255, 0]]


def test_copies_are_made_once_and_give_way_to_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnail, "_KEPT_BYTES", 10)
    copies, made = thumbnail.Copies(), []

    def copy(name: str) -> bytes:
        return copies.of(name, lambda: (made.append(name), name.encode() * 4)[1])

    assert [copy(name) for name in "aba"] == [b"aaaa", b"bbbb", b"aaaa"]
    assert made == ["a", "b"]
    copy("c")
    copy("a")
    assert made == ["a", "b", "c"], "the one that nobody has asked for longest is gone"
    copy("b")
    assert made == ["a", "b", "c", "b"]


def test_thumbnails_keep_their_shape_and_are_never_larger() -> None:
    encoded, jpeg = cv2.imencode(".jpg", np.full((200, 400, 3), 90, np.uint8))
    assert encoded
    small = cv2.imdecode(np.frombuffer(thumbnail.shrink(jpeg.tobytes(), 100), np.uint8), cv2.IMREAD_UNCHANGED)
    assert small is not None
    assert small.shape == (50, 100, 3)
    assert thumbnail.shrink(jpeg.tobytes(), 500) == jpeg.tobytes()
    png = cv2.imencode(".png", np.full((200, 400, 3), 90, np.uint8))[1].tobytes()
    assert thumbnail.shrink(png, 500).startswith(b"\xff\xd8"), "noise as PNG is ten times as heavy"
    with pytest.raises(StoreError):
        thumbnail.shrink(base64.b64decode("AAAA"), 100)


def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    ours = (path for path in STATIC.iterdir() if path.is_file())
    for path in [*ours, *STATIC.with_name("templates").iterdir()]:
        text = path.read_text(encoding="utf-8")
        assert "https://" not in text, path
        assert text.count("http://") == text.count("http://www.w3.org/"), path
        assert "<script>" not in text, path
        assert " style=" not in text, path
        assert " onclick" not in text, path
        assert "innerHTML" not in text, path
