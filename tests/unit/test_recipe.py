import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import recipe
from config.errors import ConfigurationError
from config.messages import Fidelity, Judgement
from config.recipe import Keep, Recipe, ViewRecipe, kept


def made(**changes: object) -> Recipe:
    view = ViewRecipe(bundle=Path("b.andon"), review_above=1.0, reject_above=2.0)
    return Recipe.model_validate({"product": "bracket", "job": 1, "views": {"front": view}, **changes})


def test_what_a_recipe_does_not_say_is_kept_as_by_default():
    keep = made(keep={"REJECT": {"pixels": "exact"}}).keep
    assert set(keep) == set(Judgement)
    assert keep[Judgement.REJECT] == Keep(pixels=Fidelity.EXACT)
    assert keep[Judgement.FAULT] == keep[Judgement.REVIEW] == Keep(pixels=Fidelity.REDUCED)
    assert keep[Judgement.PASS] == Keep(pixels=Fidelity.NONE, map=False)
    assert kept(None, Judgement.REJECT, 3) == Keep(pixels=Fidelity.REDUCED)


@given(st.integers(1, 1000), st.integers(0, 10**9), st.integers(1, 20))
def test_one_in_n_parts_is_sampled_evenly_and_in_step_with_no_changeover(every, first, step):
    keep = Keep(pixels=Fidelity.EXACT, every_parts=every)
    count = 40 * every
    sampled = sum(keep.samples(first + step * number) for number in range(count))
    assert sampled == pytest.approx(40, abs=12)


def test_a_part_that_is_not_sampled_keeps_nothing_and_the_sample_is_always_the_same():
    asked = made(keep={"PASS": {"pixels": "exact", "every_parts": 10}})
    chosen = [number for number in range(100) if kept(asked, Judgement.PASS, number).pixels is Fidelity.EXACT]
    assert chosen == [number for number in range(100) if kept(asked, Judgement.PASS, number).map]
    assert 9 <= len(chosen) <= 11
    assert all(kept(asked, Judgement.PASS, number) == Keep(pixels=Fidelity.NONE, map=False) for number in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[keep.REJECT]\npixels = "lossless"', "keep.REJECT.pixels"),
        ('[keep.ESCAPE]\npixels = "exact"', "ESCAPE"),
        ("[keep.PASS]\nmap = true", "keep.PASS.pixels"),
        ('[keep.PASS]\npixels = "exact"\nevery_parts = 0', "keep.PASS.every_parts"),
    ],
)
def test_wrong_settings_are_named_with_the_file(tmp_path, text, named):
    (tmp_path / "b.andon").touch()
    view = '[views.front]\nbundle = "b.andon"\nreview_above = 1.0\nreject_above = 2.0\n'
    path = tmp_path / "r.toml"
    path.write_text('product = "p"\njob = 1\n' + view + text)
    with pytest.raises(ConfigurationError, match=rf"r.toml: .*{named}"):
        recipe.read(path)


def test_a_recipe_that_needs_no_later_field_keeps_the_content_that_it_had_before_there_were_any():
    plain = recipe.content(made())
    assert set(json.loads(plain)) == {
        *("product", "job", "version", "deadline_ms", "review_gate", "fail_safe", "views", "keep")
    }
    assert set(json.loads(plain)["views"]["front"]) == {
        *("bundle_digest", "review_above", "reject_above", "minimum_defect_area_px", "roi")
    }
    # of version 0.1 before zones: what the stations' verdicts have named since then
    assert recipe.digest(plain) == "sha256:d2c8adbe5722496c0381ebe8a05a325b84aab7ea6c8b3902e52b4f797ade5235"


@pytest.mark.parametrize(
    "changes",
    [
        {"reject_views": 1, "alarms": {"consecutive_rejects": 3}},
        {"alarms": {"reject_rate": {"over_parts": 9, "above": 0.5, "clear_below": 0.4}, "stop_line": True}},
        {"views": {"front": {"mm_per_px": 0.1}}},
        {"views": {"front": {"mm_per_px": 0.1, "minimum_defect_area_mm2": 3.0}}},
        {"views": {"front": {"reject_from_defects": 3}}},
        {"views": {"front": {"zones": [{"name": "a", "polygon_px": [[0, 0], [9, 0], [9, 9]]}]}}},
        {"views": {"front": {"zones": [{"name": "a", "polygon_px": [[0, 0], [9, 0], [9, 8]]}]}}},
        {"views": {"front": {"zones": [{"name": "a", "polygon_px": [[0, 0], [9, 0], [9, 9]], "exclude": True}]}}},
    ],
)
def test_whatever_changes_how_parts_are_judged_changes_the_digest_and_comes_back(changes, tmp_path):
    view = {"bundle": "b.andon", "bundle_digest": "sha256:b", "review_above": 1.0, "reject_above": 2.0}
    changed = {**changes, "views": {"front": {**view, **changes.get("views", {}).get("front", {})}}}
    found = made(**changed)
    content = recipe.content(found)
    assert recipe.digest(content) != recipe.digest(recipe.content(made(views={"front": view})))
    assert recipe.from_content(content, lambda _: Path("b.andon"), lambda _: tmp_path) == found


def test_the_pictures_of_zones_are_content_and_their_places_are_not(tmp_path):
    def with_mask(name: str, pixels: bytes) -> Recipe:
        (tmp_path / name).write_bytes(pixels)
        zones = [{"name": "a", "mask": tmp_path / name}, {"name": "b", "mask": tmp_path / "other"}]
        view = {"bundle": "b.andon", "review_above": 1.0, "reject_above": 2.0, "zones": zones, "roi": tmp_path / name}
        return made(views={"front": view})

    (tmp_path / "other").write_bytes(b"other")
    one, moved, other = with_mask("1", b"pixels"), with_mask("2", b"pixels"), with_mask("3", b"pixelz")
    assert recipe.content(one) == recipe.content(moved) != recipe.content(other)

    def write(pixels: bytes) -> Path:
        path = tmp_path / f"again-{pixels.decode()}"
        path.write_bytes(pixels)
        return path

    found = recipe.from_content(recipe.content(one), lambda _: Path(), write)
    assert [zone.mask for zone in found.views["front"].zones] == [tmp_path / "again-pixels", tmp_path / "again-other"]
    assert recipe.content(found) == recipe.content(one)
    (tmp_path / "other").unlink()
    with pytest.raises(ConfigurationError, match="other: the picture cannot be read"):
        recipe.content(one)


def test_every_path_of_a_recipe_file_is_found_beside_it_or_named(tmp_path):
    (tmp_path / "b.andon").touch()
    (tmp_path / "mask.png").touch()
    view = '[views.front]\nbundle = "b.andon"\nreview_above = 1.0\nreject_above = 2.0\n'
    zones = '[[views.front.zones]]\nname = "a"\nmask = "mask.png"\n'
    path = tmp_path / "r.toml"
    path.write_text('product = "p"\njob = 1\n' + view + zones)
    found = recipe.read(path).views["front"]
    assert (found.bundle, found.zones[0].mask) == (tmp_path / "b.andon", tmp_path / "mask.png")
    path.write_text('product = "p"\njob = 1\n' + view + zones.replace("mask.png", "none.png"))
    with pytest.raises(ConfigurationError, match=r"r\.toml: views\.front\.zones\.0\.mask: no such file"):
        recipe.read(path)
