"""What is sampled for review, what reviews tell, and how well reviewers agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.messages import Judgement
from storage.console.claims import LIFE_S, Claims
from storage.query.confusion import Estimate, Reviewed, defective, escapes, false_rejects
from storage.query.kappa import cohen
from storage.sampling import sampled

PASS, REJECT, REVIEW, FAULT = Judgement


def test_a_sample_has_its_rate_and_lies_within_every_larger_one() -> None:
    ids = [f"st-r{number % 7}-{number:08}" for number in range(20_000)]
    small, large = ({part_id for part_id in ids if sampled(part_id, rate)} for rate in (0.02, 0.1))
    assert small < large
    for found, rate in ((small, 0.02), (large, 0.1)):
        assert abs(len(found) - rate * len(ids)) < 4 * math.sqrt(len(ids) * rate * (1 - rate))
    assert all(sampled(part_id, 1.0) for part_id in ids[:100])
    assert not any(sampled(part_id, 0.0) for part_id in ids[:100])
    assert sampled("abc", 0.75)  # SHA-256 of "abc" begins with ba7816bf: 0.7284
    assert not sampled("abc", 0.72)


def counted(verdict: Judgement, parts: int, good: int, defect: int) -> Reviewed:
    return Reviewed(verdict=verdict, rate=1, parts=parts, good=good, defect=defect, undecided=0)


def test_shares_are_weighted_by_how_many_parts_there_are() -> None:
    # of 9,000 that passed 1 in 100 is bad: 90; of 1,000 rejects 1 in 4 is good: 250, and 750 are bad
    verdicts = [counted(PASS, 9_000, 99, 1), counted(REJECT, 1_000, 25, 75), counted(REVIEW, 0, 0, 0)]
    assert escapes(verdicts).share == pytest.approx(90 / 840)
    assert false_rejects(verdicts).share == pytest.approx(250 / 9_160)
    assert defective(verdicts).share == pytest.approx(0.084)
    # by scipy.stats.binomtest(k, 100).proportion_ci(0.975, "exact"), each of two verdicts
    pass_low, pass_high = 0.00012578, 0.06203
    low, high = defective(verdicts).low, defective(verdicts).high
    assert low == pytest.approx((9_000 * pass_low + 1_000 * 0.640165) / 10_000, abs=2e-4)
    assert high == pytest.approx((9_000 * pass_high + 1_000 * 0.840226) / 10_000, abs=2e-3)


def test_what_nobody_looked_at_leaves_everything_open() -> None:
    verdicts = [counted(PASS, 9_000, 0, 0), counted(REJECT, 1_000, 25, 75)]
    assert escapes(verdicts).share is None
    assert escapes(verdicts).low == 0.0
    assert escapes(verdicts).high > 0.9
    assert false_rejects([]) == Estimate(share=None, low=0.0, high=1.0)
    assert counted(FAULT, 0, 0, 0).defective == Estimate(share=None, low=0.0, high=1.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 60)), min_size=4, max_size=4))
def test_an_estimate_lies_in_its_interval(numbers: list[tuple[int, int, int]]) -> None:
    verdicts = [
        counted(judgement, parts, good, bad) for judgement, (parts, good, bad) in zip(Judgement, numbers, strict=True)
    ]
    for one in (escapes(verdicts), false_rejects(verdicts), defective(verdicts)):
        assert 0 <= one.low <= one.high <= 1
        assert one.share is None or one.low - 1e-9 <= one.share <= one.high + 1e-9


# kappa, low, high: statsmodels.stats.inter_rater.cohens_kappa (0.15.0; scikit-learn 1.9.1 gives the same kappa)
AGREED = [
    ([[20, 5], [10, 15]], 0.4, 0.151092289, 0.648907711),
    ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.491525424, 0.391563701, 0.591487146),
    ([[45, 15], [25, 15]], 0.130434783, -0.062938279, 0.323807845),
    ([[25, 35], [5, 35]], 0.259259259, 0.108028963, 0.410489556),
    ([[30, 0, 0], [0, 12, 0], [0, 0, 3]], 1.0, 1.0, 1.0),
    ([[0, 9], [11, 0]], -0.98019802, -1.151186927, -0.809209112),
]


@pytest.mark.parametrize(("table", "kappa", "low", "high"), AGREED)
def test_kappa_is_that_of_statsmodels(table: list[list[int]], kappa: float, low: float, high: float) -> None:
    found = cohen(table)
    assert found is not None
    assert found == pytest.approx((kappa, max(low, -1.0), min(high, 1.0)), abs=1e-6)


def test_kappa_means_nothing_where_there_is_no_choice() -> None:
    assert cohen([[0, 0], [0, 0]]) is None
    assert cohen([[17, 0], [0, 0]]) is None


def test_a_part_is_not_handed_to_two_within_a_minute() -> None:
    now_s = 100.0
    claims = Claims(lambda: now_s)
    assert claims.take("ann", ["1", "2"]) == ["1", "2"]
    assert claims.take("bob", ["2", "3"]) == ["3"]
    assert claims.of_others("bob") == {"1", "2"}
    now_s += LIFE_S - 1
    claims.release("ann", "1")  # ann is at work: 2 stays hers
    assert claims.take("bob", ["1"]) == ["1"]
    now_s += 2
    assert claims.of_others("bob") == {"2"}
    assert claims.of_others("ann") == {"1"}
    claims.release("bob", "2")  # which is not bob's
    assert claims.of_others("bob") == {"2"}
    now_s += LIFE_S
    assert claims.of_others("ann") == claims.of_others("bob") == set()
