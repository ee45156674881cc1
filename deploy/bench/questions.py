"""What the console asks of a history: each of its questions, with parameters drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from random import Random

from config import shifts
from config.messages import Judgement, Reason
from deploy.bench.history import CAMERAS, CHANGED, CLASSES, END, PRODUCTS, RARE, STATIONS, History
from storage.query.answers import Bucket, Page
from storage.query.filters import Filter, ReviewState
from storage.query.patterns import Rules
from storage.query.service import LARGEST_PAGE, QueryService
from storage.query.shares import By, Kind
from storage.query.statistics import Baseline, Statistics
from storage.query.trends import Chosen, Clock, Measure, Period

_ROWS = 24  # of the console's page
_NOT_PASSED = ("REJECT", "REVIEW", "FAULT")
_CLOCK = Clock(lambda moment: moment.astimezone(UTC), shifts.DEFAULT)
_HOUR, _DAY, _WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)

Question = Callable[[QueryService], bool]  # whether the answer is whole
Values = Mapping[str, object]


def questions(history: History, random: Random) -> dict[str, Question]:
    """Return one of each question; called again, with other parameters."""
    draw = _Draw(history, random)
    found: dict[str, Question] = {
        f"page_{name}": _page(values) for name, values in (*_presets(), *draw.single(), *draw.nothing())
    }
    for number in (2, 3, 4):
        found[f"page_{number}_filters"] = _page(draw.several(number))
    found["page_in_the_past"] = _page({"until": draw.time(), "verdicts": _NOT_PASSED})
    found["api_largest_page"] = _asked(lambda service: service.parts(Filter(), limit=LARGEST_PAGE))
    part_id = history.part_id(random.randrange(history.parts))
    found["part"] = _asked(lambda service: service.part(part_id))
    found["part_unknown"] = _asked(lambda service: service.part(f"north-r{random.randrange(9999):04}-00000000"))
    found["map"] = _asked(lambda service: service.map(part_id, "top"))
    found["image"] = _asked(lambda service: service.image(part_id, "top", "crop", 0))
    found["choices"] = _asked(QueryService.choices)
    until = draw.time()
    for bucket, length in ((Bucket.MINUTE, 6 * _HOUR), (Bucket.HOUR, _WEEK), (Bucket.DAY, 12 * _WEEK)):
        span = {"since": until - length, "until": until}
        found[f"rates_{bucket}"] = _rates(span, bucket)
        found[f"rates_{bucket}_reason"] = _rates({**span, "reason": draw.reason()}, bucket)
    found["rates_week_all"] = _rates({}, Bucket.WEEK)
    return found | dict(_statistics(draw))


def _statistics(draw: _Draw) -> Iterator[tuple[str, Question]]:
    """Yield what the Statistics page asks, of all times and of four weeks."""

    def asked(ask: Callable[[Statistics], object]) -> Question:
        return _asked(lambda service: ask(Statistics(service, _CLOCK)))

    def control(measure: Measure, period: Period, chosen: Chosen) -> Question:
        return asked(lambda service: service.chart(chosen, measure, period, Rules.NELSON, Baseline()))

    everything, until = Chosen(), draw.time()
    product, bundle = draw.product(), draw.bundle(CHANGED)
    span = Chosen(since=until - 4 * _WEEK, until=until, product=product)
    yield "statistics_chart_rejects_all", control(Measure.REJECTS, Period.DAY, everything)
    yield "statistics_chart_score_weeks", control(Measure.SCORE, Period.SHIFT, span)
    yield "statistics_chart_rejects_bundle", control(Measure.REJECTS, Period.DAY, Chosen(bundle=bundle))
    yield "statistics_chart_brightness", control(Measure.BRIGHTNESS, Period.DAY, Chosen(camera="top", product=product))
    for kind in Kind:
        yield f"statistics_pareto_{kind}", asked(lambda service, kind=kind: service.pareto(everything, kind))  # type: ignore[misc]  # mypy knows no default of a lambda
        yield f"statistics_pareto_{kind}_weeks", asked(lambda service, kind=kind: service.pareto(span, kind))  # type: ignore[misc]  # the same
    yield (
        "statistics_pareto_classes_line",
        asked(lambda service: service.pareto(Chosen(line=STATIONS["south"]), Kind.CLASSES)),
    )
    yield "statistics_places_all", asked(lambda service: service.places(everything))
    yield "statistics_places_product", asked(lambda service: service.places(span))
    for by in By:
        yield f"statistics_shares_{by}", asked(lambda service, by=by: service.shares(everything, by))  # type: ignore[misc]  # the same
    yield "statistics_quantiles_all", asked(lambda service: service.spreads(everything, Period.WEEK))
    yield "statistics_quantiles_product", asked(lambda service: service.spreads(span, Period.DAY))


class _Draw:
    """Filters by chance."""

    def __init__(self, history: History, random: Random) -> None:
        self._history = history
        self._random = random

    def time(self) -> datetime:
        """Draw a moment of the history."""
        return self._history.start + self._random.random() * (END - self._history.start)

    def product(self) -> str:
        """Draw a product."""
        return self._random.choice(PRODUCTS)

    def reason(self) -> Reason:
        """Draw a reason."""
        return self._random.choice(tuple(Reason))

    def single(self) -> Iterator[tuple[str, Values]]:
        """Yield every filter alone, over all times."""
        choice, share = self._random.choice, self._random.random
        station = choice(tuple(STATIONS))
        yield "line", {"line": STATIONS[station]}
        yield "station", {"station": station}
        yield "camera", {"camera": choice(("top", "side"))}
        yield "product", {"product": choice(PRODUCTS)}
        yield "rare_product", {"product": RARE, "verdicts": _NOT_PASSED}
        yield "recipe", {"recipe": choice(PRODUCTS)}
        yield "recipe_version", {"recipe_version": choice(self._history.versions)}
        yield "bundle", {"bundle": self.bundle(choice(PRODUCTS))}
        for verdict in Judgement:
            yield f"verdict_{verdict}", {"verdicts": [verdict]}
        for reason in (Reason.ABOVE_THRESHOLD, Reason.LATE, Reason.CAMERA_DOWN, Reason.NOT_FINITE, Reason.WRONG_BUNDLE):
            yield f"reason_{reason}", {"reason": reason}
        low = share() * 1.2
        yield "score", {"score_min": low, "score_max": low + choice((0.0001, 0.001, 0.01, 0.1))}
        yield "score_highest", {"score_min": 3 + 2 * share()}
        yield "score_not_passed", {"score_max": 0.8 + share(), "verdicts": _NOT_PASSED}
        yield "defect_class", {"defect_class": choice(CLASSES)}
        yield "defect_area", {"area_min_px": round(10 ** (2 + 2 * share()))}
        x, y = 0.9 * share(), 0.9 * share()
        yield "defect_place", {"x_min": x, "x_max": x + 0.1, "y_min": y, "y_max": y + 0.1}
        yield "defect_small_place", {"x_min": x, "x_max": x + 0.005, "y_min": y, "y_max": y + 0.005}
        yield "part_id", {"part_id": self._history.part_id(self._random.randrange(self._history.parts))}
        yield "run", {"run": choice(self._history.runs)}
        yield "challenge", {"challenge": True}
        yield "no_challenge", {"challenge": False}
        yield "gate_confirmed", {"gate_confirmed": True}
        yield "gate_unconfirmed", {"gate_confirmed": False}
        for state in ReviewState:
            yield f"review_{state}", {"review": state}
        since = self.time()
        yield "times", {"since": since, "until": since + choice((_HOUR, 8 * _HOUR, _DAY, _WEEK))}

    def several(self, number: int) -> Values:
        """Draw filters together, in a span of time or in all of it."""
        alone = [values for name, values in self.single() if name not in {"part_id", "times"}]
        values: dict[str, object] = {}
        for some in self._random.sample(alone, number):
            values.update(some)
        if self._random.random() < 0.5:  # noqa: PLR2004 - an even chance
            since = self.time()
            values |= {"since": since, "until": since + self._random.choice((_DAY, _WEEK, 4 * _WEEK))}
        low, high = values.get("score_min"), values.get("score_max")
        if isinstance(low, float) and isinstance(high, float):
            values |= {"score_min": min(low, high), "score_max": max(low, high)}
        return values

    def nothing(self) -> Iterator[tuple[str, Values]]:
        """Yield filters that no part fits."""
        choice = self._random.choice
        one, other = self._random.sample(PRODUCTS[:5], 2)
        yield "no_product", {"product": "never"}
        yield "no_line_and_station", {"line": STATIONS["north"], "station": "south"}
        yield "no_line_and_camera", {"line": STATIONS["south"], "camera": "side"}
        yield "no_product_and_recipe", {"product": one, "recipe": other}
        yield "no_product_and_bundle", {"product": one, "bundle": self.bundle(other)}
        yield "no_bundle", {"bundle": "0123456789"}
        yield "no_score", {"score_min": 50, "score_max": 60}
        yield "no_pass_with_score", {"verdicts": ["PASS"], "score_min": 1.0}
        yield "no_pass_with_defect", {"verdicts": ["PASS"], "defect_class": choice(CLASSES)}
        yield "no_pass_with_reason", {"verdicts": ["PASS"], "reason": Reason.LATE}
        yield "no_fault_with_defect", {"verdicts": ["FAULT"], "area_min_px": 1}
        yield "no_fault_with_score", {"verdicts": ["FAULT"], "score_min": 0.5}
        yield "no_such_defect", {"area_min_px": 10**7}
        yield "no_time", {"until": self._history.start - _DAY}
        yield "no_run_then", {"run": self._history.runs[0], "since": END - _HOUR}
        yield "no_challenge_passed", {"challenge": True, "verdicts": ["PASS"]}
        yield "no_passed_on_hold", {"review": "held", "verdicts": ["PASS"]}
        yield "no_changed_before", {"product": CHANGED, "recipe_version": 99}

    def bundle(self, product: str) -> str:
        """Draw the digest of a bundle, or its first digits."""
        version = self._random.choice(self._history.versions)
        camera = self._random.choice(CAMERAS["north"])
        return hashlib.sha256(f"{product}{version}{camera}".encode()).hexdigest()[: self._random.choice((12, 64))]


def _presets() -> Iterator[tuple[str, Values]]:
    """Yield what the defects page is opened with."""
    midnight = END.replace(hour=0)
    for name, since in (("hour", END - _HOUR), ("shift", END - 6 * _HOUR), ("today", midnight), ("all_times", None)):
        yield name, {"since": since, "verdicts": _NOT_PASSED}
    yield "everything", {}


def _page(values: Values) -> Question:
    """Ask for a page and how many there are, as the defects page does."""
    chosen = Filter.parse(values)

    def ask(service: QueryService) -> bool:
        page, _ = service.first_page(chosen, _ROWS)
        return page.searched_to is None

    return ask


def _rates(values: Values, bucket: Bucket) -> Question:
    chosen = Filter.parse(values)
    return lambda service: service.rates(chosen, bucket).searched_to is None


def _asked(ask: Callable[[QueryService], object]) -> Question:
    def asked(service: QueryService) -> bool:
        found = ask(service)
        return not isinstance(found, Page) or found.searched_to is None

    return asked
