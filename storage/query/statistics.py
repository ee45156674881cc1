"""Statistics of what is stored, asked in types: control charts, shares, Pareto charts, maps and drift.

Every answer says of how many it is and of what time. What it cannot say, or says with reserve, stands in its notes.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from config.errors import InputError
from config.messages import Judgement
from storage.query import changes, charts, quantiles, shares, trends
from storage.query.charts import Mask, Method, Subgroups
from storage.query.filters import Moment
from storage.query.patterns import Pattern, Rules
from storage.query.service import QueryService
from storage.query.shares import By, Kind
from storage.query.trends import Chosen, Clock, Measure, Period, Series

MOST_NAMES = 30  # of Pareto bars; the rest is counted together


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Note(StrEnum):
    """What must be known of an answer."""

    NOTHING = "nothing"  # nothing is stored of what is meant
    TOO_FEW = "too_few"  # subgroups in the baseline: there are no limits
    ALIKE = "alike"  # all parts of the baseline are: there are no limits
    PRELIMINARY = "preliminary"  # the baseline has fewer than 20 subgroups
    NOT_STABLE = "not_stable"  # no baseline was: limits are of all subgroups but those beyond them
    FEW_EXPECTED = "few_expected"  # fewer than 5 in most subgroups: limits of shares are a poor guess
    MIXED_SCALES = "mixed_scales"  # scores of several products or versions are on scales of their own
    LATEST_ONLY = "latest_only"  # the latest were looked at, so many and no more
    SAMPLED = "sampled"
    LEFT_OUT = "left_out"  # periods with fewer than 30 scores: their quantiles mean nothing


class Baseline(BaseModel):
    """The span that limits are learnt from (Phase I); none: the first stable one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    baseline_since: Moment | None = None
    baseline_until: Moment | None = Field(None, description="itself not included")

    @model_validator(mode="after")
    def _baseline_holds_something(self) -> Baseline:
        since, until = self.baseline_since, self.baseline_until
        if since is not None and until is not None and since >= until:
            raise ValueError(f"baseline_since ({since.isoformat()}) must be before baseline_until")
        return self

    @property
    def chosen(self) -> bool:
        """Whether somebody has chosen it."""
        return self.baseline_since is not None or self.baseline_until is not None

    def mask(self, series: Series) -> Mask:
        """Return which subgroups lie in it."""
        since, until = self.baseline_since, self.baseline_until
        within = [
            (since is None or start >= since) and (until is None or end <= until)
            for start, end in zip(series.starts, series.ends, strict=True)
        ]
        return np.array(within, np.bool_)


class Learnt(_Value):
    """The baseline that was used."""

    since: datetime
    until: datetime
    subgroups: int
    chosen: bool  # by who asks


class Point(_Value):
    """A subgroup: the parts of an hour, a shift, a day or a week."""

    start: datetime
    end: datetime
    parts: int
    value: float  # the share, or the mean
    baseline: bool
    low: float | None = None  # limits: 3 standard deviations
    high: float | None = None
    patterns: tuple[Pattern, ...] = ()
    ewma: float | None = None
    ewma_low: float | None = None
    ewma_high: float | None = None
    cusum_up: float | None = None  # in standard deviations
    cusum_down: float | None = None


class ControlChart(_Value):
    """A control chart, the oldest point first; without limits where the notes say why."""

    measure: Measure
    period: Period
    rules: Rules
    parts: int  # or views, or images
    since: datetime | None
    until: datetime | None
    method: Method | None
    middle: float | None
    scatter: float | None = Field(description="of the baseline's levels, in those by chance alone: about 1 if no more")
    decision: float = Field(charts.DECISION, description="limit of the CUSUM, in standard deviations")
    baseline: Learnt | None
    notes: tuple[Note, ...]
    points: tuple[Point, ...]


class Share(_Value):
    """Parts of one name, and the share of them that were rejected, with its 95 % interval (Wilson)."""

    name: str
    parts: int
    verdicts: dict[Judgement, int]
    rejects: float
    low: float
    high: float


class Shares(_Value):
    """Shares by name, the highest share of rejects first; of views where it is by camera or bundle."""

    by: By
    parts: int
    of_views: bool
    notes: tuple[Note, ...]
    shares: tuple[Share, ...]


class Bar(_Value):
    """How often something was counted; `cumulative` is the share of it and of all before it."""

    name: str | None  # None: without a name
    count: int
    share: float
    cumulative: float


class Pareto(_Value):
    """What was counted, the most frequent first; `others` are those beyond the first 30 names."""

    kind: Kind
    total: int
    since: datetime | None  # trigger time of the oldest part that was looked at
    others: int
    notes: tuple[Note, ...]
    bars: tuple[Bar, ...]


class Cell(_Value):
    """A cell of a map, and how many defects have their middle in it."""

    column: int
    row: int
    count: int


class Picture(_Value):
    """A stored picture of a whole view."""

    part_id: str
    width_px: int
    height_px: int


class Places(_Value):
    """Where defects lie in a camera's view: cells of a 24th of its width and height, those without defects left out."""

    camera: str | None
    cameras: dict[str, int]  # defects of each
    side: int = shares.CELLS
    defects: int
    since: datetime | None
    picture: Picture | None  # of the product, where it is but one
    notes: tuple[Note, ...]
    cells: tuple[Cell, ...]


class Spread(_Value):
    """The scores of a period."""

    start: datetime
    end: datetime
    sampled: int
    low: float  # 5 %
    median: float
    high: float  # 95 %


class Spreads(_Value):
    """Quantiles of scores by period, of a sample of each."""

    period: Period
    sampled: int
    notes: tuple[Note, ...]
    points: tuple[Spread, ...]


class Statistics:
    """Questions to a database; a station's clock tells its days and shifts."""

    def __init__(self, query: QueryService, clock: Clock) -> None:
        self._query = query
        self._clock = clock

    def chart(self, chosen: Chosen, measure: Measure, period: Period, rules: Rules, span: Baseline) -> ControlChart:
        """Return the control chart of a share or a mean by `period`, with its limits from the baseline."""
        with self._query.connected() as connection:
            series = trends.series(connection, chosen, measure, period, self._clock)
        groups = series.subgroups
        mask, stable = (span.mask(series), True) if span.chosen else charts.stable(groups)
        chart = charts.chart(groups, mask, rules)
        points = []
        levels = groups.levels
        for index, start in enumerate(series.starts):
            lines = {} if chart is None else _lines(chart, index)
            points.append(
                Point(
                    start=start,
                    end=series.ends[index],
                    parts=int(groups.parts[index]),
                    value=float(levels[index]),
                    baseline=bool(mask[index]),
                    **lines,
                )
            )
        within = [point for point in points if point.baseline]
        learnt = None
        if within:
            ends = {"since": within[0].start, "until": within[-1].end}
            learnt = Learnt(**ends, subgroups=len(within), chosen=span.chosen)
        told = None if chart is None else chart.limits
        return ControlChart(
            measure=measure,
            period=period,
            rules=rules,
            parts=int(groups.parts.sum()),
            since=series.starts[0] if points else None,
            until=series.ends[-1] if points else None,
            method=told and told.method,
            middle=told and told.middle,
            scatter=told and told.scatter,
            decision=charts.DECISION,
            baseline=learnt,
            notes=_notes(chosen, measure, groups, mask, stable=stable, told=chart is not None),
            points=tuple(points),
        )

    def shares(self, chosen: Chosen, by: By) -> Shares:
        """Return how many parts (or views) were judged how, by name."""
        with self._query.connected() as connection:
            found = shares.shares(connection, chosen, by, self._clock)
        lines = []
        for name, verdicts in found.items():
            parts = sum(verdicts.values())
            value, low, high = changes.rate_estimate(parts, verdicts[Judgement.REJECT])
            lines.append(Share(name=name, parts=parts, verdicts=verdicts, rejects=value, low=low, high=high))
        lines.sort(key=lambda line: (-line.rejects, -line.parts, line.name))
        return Shares(
            by=by,
            parts=sum(line.parts for line in lines),
            of_views=chosen.of_views or by in {By.CAMERA, By.BUNDLE},
            notes=() if lines else (Note.NOTHING,),
            shares=tuple(lines),
        )

    def pareto(self, chosen: Chosen, kind: Kind) -> Pareto:
        """Return what defects are called, or why parts did not pass, the most frequent first."""
        ask = {Kind.CLASSES: shares.classes, Kind.REVIEWED: shares.reviewed, Kind.REASONS: shares.reasons}[kind]
        with self._query.connected() as connection:
            found = ask(connection, chosen)
        ordered = sorted(found.rows, key=lambda row: (-row[1], row[0] or ""))
        total = sum(row[1] for row in ordered)
        bars, so_far = [], 0
        for name, count in ordered[:MOST_NAMES]:
            so_far += count
            bars.append(Bar(name=name, count=count, share=count / total, cumulative=so_far / total))
        return Pareto(
            kind=kind,
            total=total,
            since=found.since if total else None,
            others=total - so_far,
            notes=_looked_at(total, complete=found.complete),
            bars=tuple(bars),
        )

    def places(self, chosen: Chosen, defect_class: str | None = None) -> Places:
        """Return where the latest defects lie; in the view with the most of them, where no camera is named."""
        with self._query.connected() as connection:
            found = shares.places(connection, chosen, defect_class)
            cameras: Counter[str] = Counter()
            for row in found.rows:
                cameras[row[0]] += row[4]
            camera = cameras.most_common(1)[0][0] if cameras else chosen.camera
            rows = [row for row in found.rows if row[0] == camera]
            products = {row[3] for row in rows}
            picture = None
            if camera is not None and len(products) == 1:
                picture = shares.picture(connection, chosen, camera, products.pop())
        cells: Counter[tuple[int, int]] = Counter()
        for _, column, line, _, count in rows:
            cells[line, column] += count
        return Places(
            camera=camera,
            cameras=dict(cameras),
            defects=cells.total(),
            since=found.since if rows else None,
            picture=None if picture is None else Picture(**picture._asdict()),
            notes=_looked_at(cells.total(), complete=found.complete),
            cells=tuple(Cell(column=column, row=line, count=count) for (line, column), count in sorted(cells.items())),
        )

    def spreads(self, chosen: Chosen, period: Period) -> Spreads:
        """Return quantiles of the scores by period."""
        if period not in {Period.DAY, Period.WEEK}:
            raise InputError(f"period: quantiles are by day or week, not by {period}")
        with self._query.connected() as connection:
            found = quantiles.spreads(connection, chosen, period, self._clock)
        points = [
            Spread(start=one.start, end=one.end, sampled=one.sampled, low=low, median=median, high=high)
            for one in found
            for low, median, high in (one.quantiles,)
            if one.sampled >= trends.FEWEST_PARTS
        ]
        notes = [Note.SAMPLED] if points else []
        notes += [Note.LEFT_OUT] if len(points) < len(found) else []
        return Spreads(
            period=period,
            sampled=sum(point.sampled for point in points),
            notes=tuple(notes) if found else (Note.NOTHING,),
            points=tuple(points),
        )


def _lines(chart: charts.Chart, index: int) -> dict[str, object]:
    names = ("low", "high", "ewma", "ewma_low", "ewma_high", "cusum_up", "cusum_down")
    return {"patterns": chart.patterns[index]} | {name: float(getattr(chart, name)[index]) for name in names}


def _notes(
    chosen: Chosen, measure: Measure, groups: Subgroups, mask: Mask, *, stable: bool, told: bool
) -> tuple[Note, ...]:
    notes = []
    learnt = int(mask.sum())
    if not len(groups):
        return (Note.NOTHING,)
    if not told:
        notes.append(Note.TOO_FEW if learnt < charts.FEWEST else Note.ALIKE)
    else:
        if learnt < charts.ENOUGH:
            notes.append(Note.PRELIMINARY)
        if not stable:
            notes.append(Note.NOT_STABLE)
        rate = float(groups.sums[mask].sum() / groups.parts[mask].sum())
        if measure.judgement is not None and np.median(groups.parts) * rate < charts.FEW_EXPECTED:
            notes.append(Note.FEW_EXPECTED)
    if measure in {Measure.SCORE, Measure.BRIGHTNESS, Measure.FOCUS} and chosen.product is None:
        notes.append(Note.MIXED_SCALES)
    return tuple(notes)


def _looked_at(count: int, *, complete: bool) -> tuple[Note, ...]:
    if not count:
        return (Note.NOTHING,)
    return () if complete else (Note.LATEST_ONLY,)
