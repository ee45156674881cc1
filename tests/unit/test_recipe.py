from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import recipe
from config.errors import ConfigurationError
from config.messages import Judgement
from config.recipe import Fidelity, Keep, Recipe, ViewRecipe, kept


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
