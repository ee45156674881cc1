"""Control charts against the worked examples of Montgomery's book, scipy, and a plain reading of each rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.query import charts
from storage.query.charts import DECISION, FEWEST, Method, Subgroups
from storage.query.patterns import Pattern, Rules, patterns

# Montgomery, Introduction to Statistical Quality Control, 7th edition: example 7.1 (frozen orange juice, 50 cans each)
JUICE = "12 15 8 10 4 7 16 9 14 10 5 6 17 12 22 8 10 5 13 11 20 18 24 15 9 12 7 13 9 6"
# table 9.1: ten of N(10, 1) twice, then ten of N(11, 1)
SHIFTED = """9.45 7.99 9.29 11.66 12.16 10.18 8.04 11.46 9.20 10.34 9.03 11.47 10.51 9.40 10.08 9.37 10.62 10.31 8.52
10.84 10.90 9.33 12.29 11.50 10.60 11.08 10.38 11.62 11.31 10.52"""
# example 7.3: purchase orders of a company by the week, of 80 to 110 units
ORDERS = [
    100,
    80,
    80,
    100,
    110,
    110,
    100,
    100,
    90,
    90,
    110,
    120,
    120,
    120,
    110,
    80,
    80,
    80,
    90,
    100,
    100,
    100,
    100,
    90,
    90,
]
FAULTY = [12, 8, 6, 9, 10, 12, 11, 16, 10, 6, 20, 15, 9, 8, 6, 8, 10, 7, 5, 8, 5, 8, 10, 6, 9]


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def everything(subgroups: Subgroups) -> np.ndarray:
    return np.ones(len(subgroups), np.bool_)


def test_p_chart_of_the_book() -> None:
    juice = Subgroups(np.full(30, 50.0), numbers(JUICE))
    chart = charts.chart(juice, everything(juice), Rules.LIMITS)
    assert chart is not None
    assert chart.limits.middle == pytest.approx(0.2313, abs=5e-5)
    # the book takes the binomial limits; these samples scatter beyond chance, so ours are wider by that factor
    assert chart.limits.method is Method.P_PRIME
    binomial = (chart.high - chart.limits.middle) / chart.limits.scatter
    assert chart.limits.middle + binomial[0] == pytest.approx(0.4102, abs=1e-4)
    assert chart.limits.middle - binomial[0] == pytest.approx(0.0524, abs=1e-4)


def test_p_chart_of_subgroups_of_any_size() -> None:
    orders = Subgroups(np.array(ORDERS, float), np.array(FAULTY, float))
    told = charts.limits(orders, everything(orders))
    assert told is not None
    assert told.middle == pytest.approx(234 / 2450, abs=1e-12)
    if told.method is Method.P:
        assert told.deviations[0] == pytest.approx(np.sqrt(0.0955 * 0.9045 / 100), abs=1e-4)
    assert told.deviations[1] / told.deviations[0] == pytest.approx(np.sqrt(100 / 80))


def test_cusum_of_the_book() -> None:
    up, down = charts.cusum(numbers(SHIFTED) - 10)
    # table 9.2
    assert up[[2, 3, 4, 5, 28, 29]] == pytest.approx([0, 1.16, 2.82, 2.5, 5.28, 5.3], abs=0.005)
    assert down[[0, 1, 2, 6]] == pytest.approx([0.05, 1.56, 1.77, 1.46], abs=0.005)
    assert np.flatnonzero(up > DECISION)[0] == 28


def test_ewma_of_the_book() -> None:
    values = numbers(SHIFTED)
    averages, spreads = charts.ewma(values, np.ones(30), 10.0, weight=0.1)
    # table 9.10: weight 0.1, limits at 2.7
    assert averages[:4] == pytest.approx([9.945, 9.7495, 9.70355, 9.8992], abs=1e-5)
    assert 10 + 2.7 * spreads[[0, 1, 29]] == pytest.approx([10.27, 10.36, 10.62], abs=0.005)
    assert np.flatnonzero(np.abs(averages - 10) > 2.7 * spreads)[0] == 28


def test_scatter_beyond_chance_is_known_as_scipy_knows_it() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (7, 20, 60):
        for tail in (0.02, 0.04, 0.06, 0.2):
            statistic = float(stats.chi2.isf(tail, freedom))
            assert charts._scatters(statistic, freedom) == (tail < 0.05)


def rejects(parts: np.ndarray, rates: np.ndarray, seed: int = 1) -> Subgroups:
    return Subgroups(parts, np.random.default_rng(seed).binomial(parts.astype(int), rates).astype(float))


def test_a_line_that_scatters_does_not_cry_wolf_and_a_jump_is_seen() -> None:
    random = np.random.default_rng(5)
    parts = random.integers(4000, 5000, 120).astype(float)
    rates = np.clip(random.normal(0.02, 0.005, 120), 0.001, 1)
    rates[100:] += 0.025
    found = rejects(parts, rates)
    baseline, is_stable = charts.stable(found)
    chart = charts.chart(found, baseline, Rules.WESTERN_ELECTRIC)
    assert chart is not None
    assert is_stable
    assert baseline.sum() == 25
    assert chart.limits.method is Method.P_PRIME
    assert chart.limits.scatter > 2
    beyond = [index for index, of_point in enumerate(chart.patterns) if Pattern.LIMIT in of_point]
    assert len([index for index in beyond if index < 100]) <= 2
    assert len([index for index in beyond if index >= 100]) >= 15
    assert (np.abs(found.levels[:100] - 0.02) > 3 * np.sqrt(0.02 * 0.98 / parts[:100])).sum() > 20  # what p would say


def test_chance_alone_takes_the_plain_chart() -> None:
    plain = 0
    for seed in range(40):
        found = rejects(np.full(30, 500.0), np.full(30, 0.05), seed)
        told = charts.limits(found, everything(found))
        assert told is not None
        plain += told.method is Method.P
    assert plain >= 34


def test_chart_of_means_knows_the_scatter_within() -> None:
    random = np.random.default_rng(3)
    parts = random.integers(20, 60, 40).astype(float)
    groups = [random.normal(5.0, 2.0, int(count)) for count in parts]
    sums, squares = (np.array([np.sum(one**power) for one in groups]) for power in (1, 2))
    found = Subgroups(parts, sums, squares)
    told = charts.limits(found, everything(found))
    assert told is not None
    assert told.method is Method.X
    within = np.sqrt(np.sum((parts - 1) * [np.var(one, ddof=1) for one in groups]) / np.sum(parts - 1))
    assert told.deviations == pytest.approx(within / np.sqrt(parts))


def test_nothing_is_said_of_too_few_or_of_what_is_all_alike() -> None:
    few = rejects(np.full(FEWEST - 1, 100.0), np.full(FEWEST - 1, 0.1))
    assert charts.chart(few, everything(few), Rules.NELSON) is None
    good = Subgroups(np.full(30, 100.0), np.zeros(30))
    assert charts.chart(good, everything(good), Rules.NELSON) is None
    same = Subgroups(np.full(30, 10.0), np.full(30, 1.0), np.full(30, 0.1))
    assert charts.chart(same, everything(same), Rules.NELSON) is None
    assert charts.stable(Subgroups(np.zeros(0), np.zeros(0)))[0].size == 0


def test_a_baseline_begins_after_what_was_not_stable() -> None:
    rates = np.full(80, 0.02)
    rates[3] = 0.2
    found = rejects(np.full(80, 3000.0), rates)
    baseline, is_stable = charts.stable(found)
    assert is_stable
    assert not baseline[:4].any()
    assert baseline[4]


def plain(z: np.ndarray, rules: Rules) -> list[tuple[Pattern, ...]]:
    """Read the rules as they are printed, point by point."""
    run = 8 if rules is Rules.WESTERN_ELECTRIC else 9

    def last(index: int, count: int) -> np.ndarray | None:
        return z[index - count + 1 : index + 1] if index + 1 >= count else None

    found = []
    for index, value in enumerate(z):
        here = {Pattern.LIMIT: abs(value) > 3}
        some = last(index, run)
        here[Pattern.RUN] = some is not None and (all(some > 0) or all(some < 0))
        some = last(index, 6)
        here[Pattern.TREND] = some is not None and (all(np.diff(some) > 0) or all(np.diff(some) < 0))
        some = last(index, 14)
        signs = None if some is None else np.sign(np.diff(some))
        here[Pattern.ALTERNATING] = signs is not None and bool(np.all(signs[1:] * signs[:-1] == -1))
        for pattern, most, of, beyond in ((Pattern.TWO_OF_THREE, 2, 3, 2.0), (Pattern.FOUR_OF_FIVE, 4, 5, 1.0)):
            some = z[max(0, index - of + 1) : index + 1]
            above, below = (value > beyond, sum(some > beyond)), (value < -beyond, sum(some < -beyond))
            here[pattern] = any(own and count >= most for own, count in (above, below))
        some = last(index, 15)
        here[Pattern.HUGGING] = some is not None and bool(np.all(np.abs(some) < 1))
        some = last(index, 8)
        here[Pattern.AVOIDING] = some is not None and bool(np.all(np.abs(some) > 1))
        found.append(tuple(pattern for pattern in Pattern if here[pattern] and pattern in rules.patterns))
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-8, 8), max_size=60), st.sampled_from(Rules), st.integers(0, 2))
def test_patterns_are_what_the_rules_say(steps: list[int], rules: Rules, shape: int) -> None:
    z = np.array(steps, float) / 2
    if shape == 1:
        z = np.sort(z)
    elif shape == 2:
        z = np.abs(z) * np.where(np.arange(len(z)) % 2, 0.2, -0.2)
    assert patterns(z, rules) == plain(z, rules)


@settings(max_examples=80, deadline=None)
@given(
    made=st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1)), max_size=60),
    rules=st.sampled_from(Rules),
    share=st.booleans(),
)
def test_any_series_has_a_chart_of_finite_lines_or_none(
    made: list[tuple[int, float]], rules: Rules, *, share: bool
) -> None:
    parts = np.array([count for count, _ in made], float)
    sums = np.rint(parts * [value for _, value in made])
    found = Subgroups(parts, sums, None if share else sums * 1.7)
    baseline, _ = charts.stable(found)
    chart = charts.chart(found, baseline, rules)
    if chart is None:
        return
    assert len(chart.patterns) == len(found)
    for line in (chart.low, chart.high, chart.ewma, chart.ewma_low, chart.ewma_high, chart.cusum_up, chart.cusum_down):
        assert line.shape == parts.shape
        assert np.isfinite(line).all()
    assert (chart.low <= chart.limits.middle).all()
    assert (chart.high >= chart.limits.middle).all()
    if share:
        assert chart.low.min() >= 0
        assert chart.high.max() <= 1


def test_false_alarms_are_as_rare_as_the_books_say() -> None:
    random = np.random.default_rng(11)
    runs = random.normal(size=(150, 2000))
    lengths: dict[str, list[int]] = {"cusum": [], "ewma": [], "western": []}
    for z in runs:
        up, down = charts.cusum(z)
        averages, spreads = charts.ewma(z, np.ones(len(z)), 0.0)
        marks = [bool(of_point) for of_point in patterns(z, Rules.WESTERN_ELECTRIC)]
        for name, signs in (
            ("cusum", np.maximum(up, down) > DECISION),
            ("ewma", np.abs(averages) > charts.EWMA_LIMIT * spreads),
            ("western", np.array(marks)),
        ):
            lengths[name].append(int(np.flatnonzero(signs)[0]) + 1 if signs.any() else len(z))
    assert np.mean(lengths["cusum"]) == pytest.approx(465, rel=0.25)
    assert np.mean(lengths["ewma"]) == pytest.approx(500, rel=0.25)
    assert np.mean(lengths["western"]) == pytest.approx(91.75, rel=0.25)
