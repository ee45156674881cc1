"""`andon recipe check` on the demo's recipe, as it is and spoilt."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from config import recipe
from deploy import cli

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
LEFT = "polygon_px = [[0, 0], [159, 0], [159, 319], [0, 319]]"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("bracket.toml", "bracket.andon"):
        shutil.copy(DEMO / name, tmp_path)
    return tmp_path / "bracket.toml"


def add(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def told(file: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert cli.main(["recipe", "check", str(file), *words]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_it_says_what_the_recipe_means(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "everywhere (100.0% of the map): PASS up to" in told(file, capsys)
    add(file, "mm_per_px = 0.1\nminimum_defect_area_mm2 = 3.0\n")
    add(file, f'[[views.front.zones]]\nname = "rim"\n{LEFT}\nreview_above = 20.0\nreject_from_defects = 2\n')
    add(file, "[alarms]\nconsecutive_rejects = 4\nstop_line = true\n")
    text = told(file, capsys)
    assert "4 rejects in a row; they ask for a stop of the line" in text
    reject_above = recipe.read(file).views["front"].reject_above
    assert f"zone rim (50.0% of the map): PASS up to 20, REVIEW up to {reject_above:g}, REJECT beyond" in text
    assert "counts from 300 px (3 mm²); 2 defects make a REJECT" in text
    assert "WARNING" not in text
    said = json.loads(told(file, capsys, "--json"))
    assert said["digest"] == recipe.digest(recipe.content(recipe.read(file)))
    everywhere, rim = said["views"]["front"]["places"]
    assert (everywhere["name"], rim["name"], rim["share_of_map"]) == (None, "rim", 0.5)
    assert said["views"]["front"]["warnings"] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zones = [{ name = 'a', polygon_px = [[0, 0], [320, 0], [9, 9]] }]", "WRONG_FRAME"),
        ("zones = [{ name = 'a', exclude = true, polygon_px = [[0, 0], [319, 0], [319, 319], [0, 319]] }]", "NOTHING"),
        (f"zones = [{{ name = 'a', {LEFT} }}, {{ name = 'b', {LEFT} }}]", "zone 'b' has no cell"),
    ],
)
def test_what_is_right_but_surely_not_meant_is_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    add(file, text)
    (warning,) = json.loads(told(file, capsys, "--json"))["views"]["front"]["warnings"]
    assert says in warning


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("minimum_defect_area_mm2 = 3.0", "views.front: .*needs the view's mm_per_px"),
        ("zones = [{ name = 'a', mask = 'none.png' }]", "views.front.zones.0.mask: no such file"),
        ("zones = [{ name = 'a', mask = 'black.png' }]", "black.png: the picture is black all over"),
        ("zones = [{ name = 'a', mask = 'bracket.toml' }]", "bracket.toml: not a readable picture"),
        ("[alarms]\nstop_line = true", "alarms: .*nothing else would stop the line"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_field(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    cv2.imwrite(str(file.with_name("black.png")), np.zeros((4, 4), np.uint8))
    add(file, text)
    error = told(file, capsys, code=78)
    assert len(error.splitlines()) == 1
    assert re.search(says, error), error


def test_a_bundle_that_is_not_the_one_it_pins_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(DEMO / "cap.andon", file.with_name("bracket.andon"))
    assert "the recipe wants sha256:" in told(file, capsys, code=78)
