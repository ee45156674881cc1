"""The Statistics page, and what it is made of: control charts, Pareto charts, maps and drift, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from storage.console.access import needs
from storage.console.context import TheConsole
from storage.console.models import local
from storage.console.rendering import render
from storage.people import Person, Role
from storage.query.filters import Filter, Name
from storage.query.patterns import Rules
from storage.query.population import What
from storage.query.shares import By, Kind
from storage.query.since import SinceWhen, since_when
from storage.query.statistics import Baseline, ControlChart, Pareto, Places, Shares, Spreads, Statistics
from storage.query.trends import Chosen, Clock, Measure, Period

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}}, "description": "JSON, or CSV where `format=csv` asks for it"},
}
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes what begins so for a formula

Viewer = Annotated[Person, needs(Role.VIEWER)]
Format = Literal["json", "csv"]
Found = TypeVar("Found", bound=BaseModel)

router = APIRouter(tags=["statistics"], responses=_RESPONSES)


class _Asked(Chosen):
    format: Format = "json"

    @property
    def parts(self) -> Chosen:
        """Return which parts are meant."""
        return Chosen.model_construct(**{name: getattr(self, name) for name in Chosen.model_fields})


class ChartQuery(_Asked, Baseline):
    """What is followed, by how long a time, with which rules and baseline."""

    measure: Measure = Measure.REJECTS
    period: Period = Period.DAY
    rules: Rules = Rules.WESTERN_ELECTRIC

    @property
    def span(self) -> Baseline:
        """Return the baseline that is asked for."""
        return Baseline.model_construct(baseline_since=self.baseline_since, baseline_until=self.baseline_until)


class SharesQuery(_Asked):
    """What parts are divided by."""

    by: By = By.PRODUCT


class ParetoQuery(_Asked):
    """What is counted."""

    kind: Kind = Kind.CLASSES


class PlacesQuery(_Asked):
    """Which defects."""

    defect_class: Name | None = None


class SpreadsQuery(_Asked):
    """By how long a time."""

    period: Literal[Period.DAY, Period.WEEK] = Field(Period.DAY, description="at most 60 of them")


class SinceQuery(Filter):
    """What may have changed, and among which parts."""

    what: What = What.REJECTS


def _statistics(console: TheConsole) -> Statistics:
    return Statistics(console.query, Clock(local, console.station.shifts))


TheStatistics = Annotated[Statistics, Depends(_statistics)]


@router.get("/statistics", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request, console: TheConsole, person: Viewer) -> Response:
    """Show the page; its figures come as JSON."""
    del person
    return render(
        request,
        "statistics.html",
        here="statistics",
        choices=console.query.choices(),
        measures=tuple(Measure),
        periods=tuple(Period),
    )


@router.get("/api/statistics/chart", response_model=ControlChart)
def chart(statistics: TheStatistics, person: Viewer, query: Annotated[ChartQuery, Query()]) -> Response | ControlChart:
    """Return a control chart: points, limits, EWMA, CUSUM, and the patterns that chance seldom makes."""
    del person
    found = statistics.chart(query.parts, query.measure, query.period, query.rules, query.span)
    return _answer(query, found, found.points)


@router.get("/api/statistics/shares", response_model=Shares)
def shares(statistics: TheStatistics, person: Viewer, query: Annotated[SharesQuery, Query()]) -> Response | Shares:
    """Return how parts were judged by product, shift, camera …, with the share of rejects and its 95 % interval."""
    del person
    found = statistics.shares(query.parts, query.by)
    return _answer(query, found, found.shares)


@router.get("/api/statistics/pareto", response_model=Pareto)
def pareto(statistics: TheStatistics, person: Viewer, query: Annotated[ParetoQuery, Query()]) -> Response | Pareto:
    """Return what defects are called, or why parts did not pass, the most frequent first."""
    del person
    found = statistics.pareto(query.parts, query.kind)
    return _answer(query, found, found.bars)


@router.get("/api/statistics/places", response_model=Places)
def places(statistics: TheStatistics, person: Viewer, query: Annotated[PlacesQuery, Query()]) -> Response | Places:
    """Return where defects lie in a camera's view."""
    del person
    found = statistics.places(query.parts, query.defect_class)
    return _answer(query, found, found.cells)


@router.get("/api/statistics/scores", response_model=Spreads)
def scores(statistics: TheStatistics, person: Viewer, query: Annotated[SpreadsQuery, Query()]) -> Response | Spreads:
    """Return the 5, 50 and 95 % quantiles of scores by day or week, of a sample."""
    del person
    found = statistics.spreads(query.parts, query.period)
    return _answer(query, found, found.points)


@router.get("/api/statistics/since")
def since(console: TheConsole, person: Viewer, query: Annotated[SinceQuery, Query()]) -> SinceWhen:
    """Return since when a share or the score is what it is, with the first part after the change."""
    del person
    chosen = Filter.model_construct(**{name: getattr(query, name) for name in Filter.model_fields})
    return since_when(console.database, chosen, query.what)


def _answer(query: _Asked, found: Found, rows: Sequence[BaseModel]) -> Response | Found:
    return found if query.format == "json" else _csv(rows)


def _csv(rows: Sequence[BaseModel]) -> Response:
    """Return rows as RFC 4180 has them, a column for each field; tables in a field have a column for each name."""
    written = io.StringIO()
    writer = csv.writer(written)
    for number, row in enumerate(rows):
        fields = list(_fields(row))
        if number == 0:
            writer.writerow(name for name, _ in fields)
        writer.writerow(_cell(value) for _, value in fields)
    headers = {"Content-Disposition": 'attachment; filename="andon-statistics.csv"'}
    return Response(written.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _fields(row: BaseModel) -> Iterable[tuple[str, object]]:
    for name, value in row:
        if isinstance(value, dict):
            yield from value.items()
        else:
            yield name, value


def _cell(value: object) -> object:
    """Return a value as a spreadsheet may read it; a text never as a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return "" if value is None else value
