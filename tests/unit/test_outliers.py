from __future__ import annotations

import numpy as np
import pytest

from inference.training.outliers import ERROR_RATE, FEWEST, outlying_above


@pytest.mark.parametrize("count", [8, 20, 100, 400])
def test_of_folders_with_nothing_odd_as_many_are_named_as_is_stated(count: int) -> None:
    random = np.random.default_rng(count)
    named = [(scores := random.gumbel(20.0, 1.5, count)).max() > outlying_above(scores.tolist()) for _ in range(1500)]
    assert np.mean(named) == pytest.approx(ERROR_RATE, abs=0.02)


@pytest.mark.parametrize("count", [20, 100, 400])
def test_scores_with_a_lighter_tail_are_named_no_more_often(count: int) -> None:
    random = np.random.default_rng(count)
    for scores in (9 + random.standard_normal((300, count)), random.gamma(20.0, size=(300, count))):
        named = [some.max() > outlying_above(some.tolist()) for some in scores]
        assert np.mean(named) <= ERROR_RATE + 0.02


@pytest.mark.parametrize("spoilt", [1, 5, 20])
def test_a_fifth_of_bad_ones_does_not_hide_itself(spoilt: int) -> None:
    random = np.random.default_rng(spoilt)
    scores = [*random.gumbel(20.0, 1.0, 100 - spoilt), *random.uniform(60.0, 70.0, spoilt)]
    limit = outlying_above(scores)
    assert limit is not None
    assert [score > limit for score in scores] == [False] * (100 - spoilt) + [True] * spoilt


def test_the_limit_moves_with_the_scale_of_scores() -> None:
    scores = np.random.default_rng(0).gumbel(5.0, 1.0, 40)
    limit = outlying_above(scores.tolist())
    assert outlying_above((scores * 7 + 3).tolist()) == pytest.approx(7 * float(limit or 0) + 3)


def test_too_few_scores_have_no_limit_and_equal_ones_let_rounding_pass() -> None:
    assert outlying_above([1.0] * (FEWEST - 1)) is None
    assert 2.0 < (outlying_above([2.0] * 30) or 0) < 2.1
