from __future__ import annotations

import math

import numpy as np
import pytest

from config.errors import InputError
from config.intervals import interval, lower_bound, trials_to_promise, upper_bound
from inference.training.calibration import calibrate, folds
from inference.training.detector import load
from inference.training.evaluation import Rate, Thresholds
from inference.training.learning import usual_folds
from inference.training.metrics import PixelCurves, auroc, average_precision, best_f1

# Clopper-Pearson limits as R's binom.test prints them
KNOWN = [
    (0, 10, 0.0, 0.3084971),
    (1, 10, 0.002528579, 0.4450161),
    (5, 10, 0.1870860, 0.8129140),
    (10, 10, 0.6915029, 1),
]


@pytest.mark.parametrize(("events", "trials", "low", "high"), KNOWN)
def test_intervals_are_those_of_r(events: int, trials: int, low: float, high: float) -> None:
    assert interval(events, trials) == pytest.approx((low, high), abs=1e-6)


def test_no_event_has_the_bound_of_the_rule_of_three() -> None:
    for trials in (1, 20, 299, 100_000):
        assert upper_bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials), rel=1e-9)
        assert lower_bound(trials, trials) == pytest.approx(0.05 ** (1 / trials), rel=1e-9)


def test_bounds_hold_for_large_numbers() -> None:
    assert upper_bound(5_000, 100_000) == pytest.approx(0.05 + 1.645 * math.sqrt(0.05 * 0.95 / 1e5), abs=2e-5)
    assert interval(0, 0) == (0.0, 1.0)


def test_the_parts_it_takes_to_promise_a_rate() -> None:
    assert trials_to_promise(0.01) == 299
    assert trials_to_promise(0.05) == 59
    for events in (0, 1, 3):
        needed = trials_to_promise(0.02, events)
        assert upper_bound(events, needed) <= 0.02 < upper_bound(events, needed - 1)


def test_a_rate_knows_its_interval() -> None:
    rate = Rate.of(1, 10)
    assert (rate.rate, rate.low, rate.high) == pytest.approx((0.1, 0.002528579, 0.4450161), abs=1e-6)
    assert Rate.of(0, 0).rate == 0


def test_the_review_threshold_is_the_conformal_quantile_where_nothing_can_be_promised() -> None:
    result = calibrate([float(score) for score in range(1, 200)], alpha=0.01)
    assert result.review_above == 198  # the ceil(200 * 0.99)-th of 199
    assert (result.held_out_above, result.held_out_images, result.held_out_max) == (1, 199, 199)
    assert result.reject_above > result.review_above
    assert result.alpha_upper == pytest.approx(upper_bound(1, 199))
    assert result.more_images == 473 - 199


def test_too_few_images_take_the_highest_score() -> None:
    few = calibrate([0.1 * score for score in range(20)], alpha=0.01)
    assert (few.review_above, few.held_out_above) == (pytest.approx(1.9), 0)
    assert (few.alpha_upper, few.more_images) == (pytest.approx(1 - 0.05 ** (1 / 20)), 473 - 20)


def test_with_enough_images_the_rate_is_promised() -> None:
    for count in (473, 700, 2000):
        result = calibrate([float(score) for score in range(count)], alpha=0.01)
        assert result.alpha_upper <= 0.01
        assert upper_bound(result.held_out_above + 1, count) > 0.01
        assert result.more_images == 0
        assert result.held_out_above >= 1


def test_one_odd_part_sets_neither_threshold() -> None:
    scores = list(np.linspace(20.0, 30.0, 382))
    clean, odd = calibrate(scores, 0.01), calibrate([*scores, 47.0], 0.01)
    assert odd.review_above == pytest.approx(clean.review_above, abs=0.1)
    assert odd.reject_above == pytest.approx(clean.reject_above, abs=1.2)


def test_good_parts_exceed_the_review_threshold_as_rarely_as_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    for count, alpha, kept in ((120, 0.02, 0.0), (300, 0.02, 0.93)):  # on average; with 95 % confidence
        rates, gray = [], []
        for _ in range(150):
            result = calibrate(rng.gamma(20.0, 1.0, count).tolist(), alpha)
            fresh = rng.gamma(20.0, 1.0, 4000)
            rates.append((fresh > result.review_above).mean())
            gray.append((fresh > result.reject_above).mean())
        assert np.mean(rates) <= alpha * 1.1
        assert np.mean(np.array(rates) <= alpha * 1.2) >= kept  # a fifth for the noise of 4000 parts
        assert np.mean(gray) < alpha / 4


def test_the_confidence_bound_covers_the_true_rate() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(600):
        result = calibrate(rng.random(100).tolist(), alpha=0.01)
        covered.append(1 - result.review_above <= result.alpha_upper)  # of uniform scores the true rate is known
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03), "with 100 scores the highest counts"


@pytest.mark.parametrize("count", [1, 2, 6, 20, 43])
def test_what_a_few_held_out_scores_promise_holds(count: int) -> None:
    """As where a fifth of 8 to 213 images is held out: of uniform scores the true rate above a threshold is known."""
    rng = np.random.default_rng(count)
    results = [calibrate(rng.random(count).tolist(), alpha=0.01) for _ in range(2000)]
    rates = np.array([1 - result.review_above for result in results])
    (promised,) = {result.alpha_upper for result in results}
    assert promised == pytest.approx(1 - 0.05 ** (1 / count))
    assert np.mean(rates <= promised) == pytest.approx(0.95, abs=0.015)
    assert np.mean(rates) == pytest.approx(1 / (count + 1), rel=0.1), "what the next good part has to expect"
    assert {result.more_images for result in results} == {473 - count}


def test_copies_of_a_single_image_promise_nothing() -> None:
    result = calibrate([1.0, 3.0, 2.0], 0.01, copies=True)
    assert (result.review_above, result.held_out_images, result.alpha_upper, result.more_images) == (3.0, 0, 1.0, 473)
    assert calibrate([float(score) for score in range(600)], 0.01, copies=True).review_above == 599


@pytest.mark.parametrize("scores", [[], [1.0, math.nan, 2.0], [math.inf]])
def test_scores_that_are_no_numbers_are_refused(scores: list[float]) -> None:
    with pytest.raises(InputError, match="held-out scores are no finite numbers"):
        calibrate(scores, 0.01)


def test_equal_scores_give_equal_thresholds() -> None:
    result = calibrate([2.0] * 50, 0.01)
    assert result.review_above == result.reject_above == 2.0


@pytest.mark.parametrize(("name", "images", "expected"), [("patchcore", 34, 5), ("cfa", 34, 5), ("cfa", 100, 1)])
def test_where_a_fifth_is_few_every_image_is_scored(name: str, images: int, expected: int) -> None:
    assert usual_folds(load(name, {})[0], images) == expected


def test_folds_hold_every_image_once() -> None:
    parts = folds(23, 5, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert [len(part) for part in parts] == [5, 5, 5, 4, 4]
    assert all(np.array_equal(one, other) for one, other in zip(parts, folds(23, 5, seed=3), strict=True))
    assert len(folds(3, 5, seed=0)) == 3


def test_thresholds_belong_to_the_milder_verdict() -> None:
    thresholds = Thresholds(1.0, 2.0)
    assert [thresholds.verdict(score) for score in (0.5, 1.0, 1.5, 2.0, 2.5)] == [
        "PASS", "PASS", "REVIEW", "REVIEW", "REJECT",
    ]  # fmt: skip


def test_auroc_counts_a_tie_as_half() -> None:
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auroc([4, 3, 2, 1], [False, False, True, True]) == 0
    assert auroc([1, 1, 1, 1], [False, True, False, True]) == 0.5
    assert auroc([1, 2, 2, 3], [False, True, False, True]) == 0.875
    assert auroc([1, 2], [True, True]) is None
    assert auroc([1, 2], [False, False]) is None


def test_precision_is_averaged_over_the_steps_of_recall() -> None:
    # by hand: thresholds 4, 3, 2, 1 find 1, 1, 2, 2 of 2 bad ones among 1, 2, 3, 4
    assert average_precision([1, 2, 3, 4], [False, True, False, True]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([1, 2, 3, 4], [False, False, True, True]) == 1
    assert average_precision([1, 1], [False, True]) == 0.5
    assert average_precision([1, 2], [True, True]) is None


def test_the_best_f1_and_where_it_is() -> None:
    best = best_f1([1, 2, 3, 4], [False, True, False, True])
    assert best is not None
    assert best.f1 == pytest.approx(0.8)  # above 1.5: 2 of 3 are bad, and both bad ones are found
    assert best.above == 1.5
    perfect = best_f1([1, 2, 3, 4], [False, False, True, True])
    assert perfect is not None
    assert (perfect.f1, perfect.above) == (1, 2.5)
    assert best_f1([1, 2], [False, False]) is None


def test_pixel_auroc_is_the_same_in_bins() -> None:
    rng = np.random.default_rng(0)
    values, bad = rng.random((6, 40, 50)).astype(np.float32), rng.random((6, 40, 50)) < 0.1
    values[bad] += 0.2
    curves = PixelCurves(0.0, 1.2)
    for one, mask in zip(values, bad, strict=True):
        curves.add(one, mask)
    assert curves.auroc() == pytest.approx(auroc(values.ravel(), bad.ravel()), abs=1e-4)
    assert PixelCurves(0, 1).auroc() is PixelCurves(0, 1).aupro() is None
    flat = PixelCurves(3.0, 3.0)
    flat.add(np.full((2, 2), 3.0, np.float32), np.array([[True, False], [False, False]]))
    assert flat.auroc() == 0.5


def test_regions_count_alike_however_large() -> None:
    rng = np.random.default_rng(1)
    values, bad = rng.random((60, 80)).astype(np.float32), np.zeros((60, 80), np.bool_)
    bad[5:25, 5:25], bad[40:43, 60:63] = True, True
    values[5:25, 5:25] += 0.3
    curves = PixelCurves(0.0, 1.3)
    curves.add(values, bad)
    thresholds = np.sort(values.ravel())[::-1]
    false = np.array([(values[~bad] >= one).mean() for one in thresholds])
    overlap = np.array(
        [((values[5:25, 5:25] >= one).mean() + (values[40:43, 60:63] >= one).mean()) / 2 for one in thresholds]
    )
    within = false <= 0.3
    area = np.trapezoid(overlap[within], false[within]) / 0.3
    assert curves.aupro() == pytest.approx(area, abs=2e-3)
    perfect = PixelCurves(0.0, 1.0)
    perfect.add(bad.astype(np.float32), bad)
    assert perfect.aupro() == pytest.approx(1.0)
