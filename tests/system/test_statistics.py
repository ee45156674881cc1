"""Statistics of a made-up history of two weeks, against its rows counted one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sqlalchemy
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import Servers
from sqlalchemy import text
from sqlalchemy.pool import NullPool
from storage_process import storage, until, verdict

from config import bus, shifts
from config.errors import InputError
from config.messages import Appearance, Judgement
from deploy.bench import history
from deploy.bench.history import CLASSES, END, PRODUCTS, History
from storage import drift
from storage.query import quantiles, trends
from storage.query import shares as shares_of
from storage.query.patterns import Rules
from storage.query.service import QueryService
from storage.query.shares import CELLS, By, Kind
from storage.query.statistics import Baseline, Note, Statistics
from storage.query.trends import Chosen, Clock, Measure, Period

PARTS = 20_000
SEOUL = timezone(timedelta(hours=9))
CLOCK = Clock(lambda moment: moment.astimezone(SEOUL), shifts.DEFAULT)
ALL = Chosen()
REVIEWS = """INSERT INTO review (part_id, trigger_time, reviewer, finding, camera, region, defect_class)
    SELECT part_id, trigger_time, 'ann', 'DEFECT', 'top', 0,
    CASE region WHEN 0 THEN 'burr' ELSE 'pore' END FROM defect"""


class Rows:
    """What is stored, as it is."""

    def __init__(self, url: str) -> None:
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(REVIEWS))
            self.verdicts = connection.execute(text("SELECT * FROM verdict ORDER BY trigger_time")).all()
            self.views = connection.execute(
                text("SELECT w.*, product FROM view w JOIN verdict USING (part_id, trigger_time)")
            ).all()
            self.defects = connection.execute(text("SELECT * FROM defect")).all()
        engine.dispose()


@pytest.fixture(scope="module")
def stored(running_servers: Servers) -> Iterator[tuple[Statistics, Rows, QueryService]]:
    running_servers.ready()
    url = running_servers.database()
    history.make(url, History(PARTS, timedelta(minutes=1)))
    query = QueryService(url)
    yield Statistics(query, CLOCK), Rows(url), query
    query.close()
    running_servers.drop(url)


def hour(row: Any) -> datetime:
    return row.trigger_time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_points_are_the_parts_of_their_time(stored: tuple[Statistics, Rows, QueryService], data: st.DataObject) -> None:
    statistics, rows, _ = stored
    measure = data.draw(st.sampled_from([Measure.REJECTS, Measure.REVIEW, Measure.FAULT, Measure.SCORE]))
    period = data.draw(st.sampled_from([Period.SHIFT, Period.DAY, Period.WEEK]))
    camera = data.draw(st.sampled_from([None, None, "top", "side"]))
    product = data.draw(st.sampled_from([None, *PRODUCTS]))
    since = data.draw(st.none() | st.integers(1, 300).map(lambda hours: END - timedelta(hours=hours, minutes=20)))
    chosen = Chosen(product=product, camera=camera, since=since)
    chart = statistics.chart(chosen, measure, period, Rules.NELSON, Baseline())
    wanted: dict[datetime, list[float]] = {}
    for row in rows.verdicts if camera is None else rows.views:
        meant = (camera is None or row.camera == camera) and (product is None or row.product == product)
        if not meant or (since is not None and hour(row) < hour_of(since)):
            continue
        start, _ = CLOCK.period(hour(row), period)
        if measure is Measure.SCORE:
            if row.score is not None:
                wanted.setdefault(start, []).append(row.score)
        else:
            wanted.setdefault(start, []).append(float(row.verdict == measure.judgement))
    for point in chart.points:
        values = [
            value for start, of_period in wanted.items() if point.start <= start < point.end for value in of_period
        ]
        assert point.parts == len(values)
        assert point.parts >= trends.FEWEST_PARTS or len(chart.points) == 1
        assert point.value == pytest.approx(np.mean(values))
        if len(wanted.get(point.start, ())) >= trends.FEWEST_PARTS and point is not chart.points[-1]:
            assert point.end == CLOCK.period(point.start, period)[1]
    assert chart.parts == sum(map(len, wanted.values()))
    assert (Note.NOTHING in chart.notes) == (not wanted)


def hour_of(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def test_shares_are_those_of_the_parts(stored: tuple[Statistics, Rows, QueryService]) -> None:
    statistics, rows, _ = stored
    for by, name in ((By.PRODUCT, "product"), (By.LINE, "line"), (By.STATION, "station")):
        found = {
            share.name: (share.parts, share.verdicts[Judgement.REJECT]) for share in statistics.shares(ALL, by).shares
        }
        parts = Counter(getattr(row, name) for row in rows.verdicts)
        rejects = Counter(getattr(row, name) for row in rows.verdicts if row.verdict == "REJECT")
        assert found == {one: (parts[one], rejects[one]) for one in parts}
    by_shift = {share.name: share.parts for share in statistics.shares(ALL, By.SHIFT).shares}
    assert by_shift == Counter(
        shifts.present(shifts.DEFAULT, hour(row).astimezone(SEOUL)).name for row in rows.verdicts
    )
    by_camera = statistics.shares(Chosen(product="cap"), By.CAMERA)
    assert by_camera.of_views
    views = Counter(row.camera for row in rows.views if row.product == "cap")
    assert {share.name: share.parts for share in by_camera.shares} == views
    bundles = {share.name: share.parts for share in statistics.shares(ALL, By.BUNDLE).shares}
    assert bundles == Counter(row.bundle_digest for row in rows.views)
    versions = {share.name for share in statistics.shares(ALL, By.RECIPE_VERSION).shares}
    assert versions == {f"{row.recipe} v{row.recipe_version}" for row in rows.verdicts}
    for share in statistics.shares(ALL, By.PRODUCT).shares:
        assert 0 <= share.low <= share.rejects <= share.high <= 1


def test_pareto_counts_what_there_is(stored: tuple[Statistics, Rows, QueryService]) -> None:
    statistics, rows, _ = stored
    classes = statistics.pareto(ALL, Kind.CLASSES)
    assert {bar.name: bar.count for bar in classes.bars} == Counter(row.defect_class for row in rows.defects)
    assert [bar.count for bar in classes.bars] == sorted((bar.count for bar in classes.bars), reverse=True)
    assert classes.bars[-1].cumulative == pytest.approx(1)
    assert classes.since == min(row.trigger_time for row in rows.defects)
    reasons = statistics.pareto(Chosen(product="gear"), Kind.REASONS)
    told = [row for row in rows.verdicts if row.verdict != "PASS" and row.product == "gear"]
    assert {bar.name: bar.count for bar in reasons.bars} == Counter(reason for row in told for reason in row.reasons)
    named = Counter("burr" for row in rows.defects if row.region == 0)
    reviewed = statistics.pareto(Chosen(product="gear", camera="top"), Kind.REVIEWED)
    assert {bar.name for bar in reviewed.bars} <= {"burr", "pore"}
    everything = {bar.name: bar.count for bar in statistics.pareto(ALL, Kind.REVIEWED).bars}
    assert (
        everything.get("burr", 0) + everything.get("pore", 0) == named["burr"]
    )  # a reviewer's last word on each defect
    joined = statistics.pareto(Chosen(line="line 2"), Kind.CLASSES)
    south = {row.part_id for row in rows.verdicts if row.line == "line 2"}
    assert joined.total == sum(row.part_id in south for row in rows.defects)
    bundle = rows.views[0].bundle_digest
    of_bundle = {(row.part_id, row.camera) for row in rows.views if row.bundle_digest == bundle}
    found = statistics.pareto(Chosen(bundle=bundle), Kind.CLASSES)
    assert found.total == sum((row.part_id, row.camera) in of_bundle for row in rows.defects)


def test_places_are_those_of_the_defects(stored: tuple[Statistics, Rows, QueryService]) -> None:
    statistics, rows, _ = stored
    found = statistics.places(Chosen(product="cap"), CLASSES[0])
    meant = [row for row in rows.defects if row.product == "cap" and row.defect_class == CLASSES[0]]
    cells = Counter(
        (min(int(row.center_x * CELLS), CELLS - 1), min(int(row.center_y * CELLS), CELLS - 1)) for row in meant
    )
    assert {(cell.column, cell.row): cell.count for cell in found.cells} == cells
    assert (found.camera, found.defects, found.notes) == ("top", len(meant), ())


def test_quantiles_are_near_those_of_all_parts(stored: tuple[Statistics, Rows, QueryService]) -> None:
    statistics, rows, _ = stored
    found = statistics.spreads(Chosen(product="cap"), Period.WEEK)
    assert Note.SAMPLED in found.notes
    assert all(point.sampled >= trends.FEWEST_PARTS for point in found.points)
    rare = statistics.spreads(Chosen(product="sample"), Period.DAY)
    assert Note.LEFT_OUT in rare.notes or all(point.sampled >= trends.FEWEST_PARTS for point in rare.points)
    for point in found.points:
        scores = [
            row.score
            for row in rows.verdicts
            if row.product == "cap" and row.score is not None and point.start <= hour(row) < point.end
        ]
        if point.sampled > 300:
            below = np.mean(np.array(scores) <= point.median)
            assert 0.4 < below < 0.6
    with pytest.raises(InputError, match="by day or week"):
        statistics.spreads(ALL, Period.HOUR)


def test_quantiles_of_many_periods_are_of_neighbours_together(
    stored: tuple[Statistics, Rows, QueryService], monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = stored[0]
    days = statistics.spreads(Chosen(product="cap"), Period.DAY).points
    monkeypatch.setattr(quantiles, "MOST_PERIODS", 3)
    joined = statistics.spreads(Chosen(product="cap"), Period.DAY).points
    assert len(days) > 3 >= len(joined) > 1
    assert joined[0].start <= days[0].start
    assert joined[-1].end >= days[-1].end
    assert all(before.end <= after.start for before, after in pairwise(joined))


def test_appearance_is_of_one_camera(stored: tuple[Statistics, Rows, QueryService]) -> None:
    statistics, _, _ = stored
    chart = statistics.chart(Chosen(camera="top"), Measure.BRIGHTNESS, Period.SHIFT, Rules.LIMITS, Baseline())
    assert 119 < chart.points[0].value < 125
    assert chart.middle is not None
    assert chart.middle == pytest.approx(122, abs=1)
    with pytest.raises(InputError, match="camera: brightness is of one camera"):
        statistics.chart(ALL, Measure.BRIGHTNESS, Period.DAY, Rules.LIMITS, Baseline())
    with pytest.raises(InputError, match="line: nothing is known by it"):
        statistics.chart(Chosen(camera="top", line="1"), Measure.FOCUS, Period.DAY, Rules.LIMITS, Baseline())


def test_a_baseline_may_be_chosen_and_nothing_is_no_error(stored: tuple[Statistics, Rows, QueryService]) -> None:
    statistics, _, _ = stored
    since = END - timedelta(days=9)
    span = Baseline(baseline_since=since, baseline_until=END - timedelta(days=3))
    chart = statistics.chart(ALL, Measure.REJECTS, Period.SHIFT, Rules.LIMITS, span)
    assert chart.baseline is not None
    assert chart.baseline.chosen
    assert all(point.baseline == (point.start >= since and point.end <= span.baseline_until) for point in chart.points)
    few = statistics.chart(ALL, Measure.REJECTS, Period.WEEK, Rules.LIMITS, Baseline())
    assert Note.TOO_FEW in few.notes
    assert few.points[0].high is None
    never = Chosen(product="never")
    assert statistics.chart(never, Measure.SCORE, Period.DAY, Rules.LIMITS, Baseline()).notes == (Note.NOTHING,)
    assert statistics.pareto(never, Kind.CLASSES).notes == (Note.NOTHING,)
    assert statistics.places(never).notes == (Note.NOTHING,)
    assert statistics.shares(never, By.SHIFT).notes == (Note.NOTHING,)
    assert statistics.spreads(never, Period.DAY).notes == (Note.NOTHING,)


def test_so_many_points_and_no_more(
    stored: tuple[Statistics, Rows, QueryService], monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics, _, _ = stored
    monkeypatch.setattr(trends, "MOST_POINTS", 100)
    with pytest.raises(InputError, match="more than 100: choose longer ones"):
        statistics.chart(ALL, Measure.REJECTS, Period.HOUR, Rules.LIMITS, Baseline())


def test_so_many_rows_are_looked_at_and_no_more(
    stored: tuple[Statistics, Rows, QueryService], monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics, rows, _ = stored
    monkeypatch.setattr(shares_of, "MOST_LOOKED_AT", 50)
    found = statistics.pareto(ALL, Kind.CLASSES)
    assert Note.LATEST_ONLY in found.notes
    assert found.total == 51
    latest = sorted((row.trigger_time for row in rows.defects), reverse=True)
    assert found.since == latest[50]


def test_views_and_appearances_are_added_up_once(running_servers: Servers) -> None:
    running_servers.ready()
    with storage(running_servers) as station:
        station.start()
        peer = station.sender()
        first, second = (verdict(number) for number in (1, 2))
        peer.send(*first)
        peer.finish()
        until(lambda: station.stored() == 1, station.said)
        station.stop()
        station.start()  # which has forgotten what it took: the same record is stored again, beside a new one
        peer.send(*first)
        peer.send(*second)
        worker = peer.bus.connect(zmq.PUSH, station.home.endpoint("health"))
        said = {
            "service": "worker-0",
            "station": "st",
            "camera": "top",
            "product": "bracket",
            "time_ns": time.time_ns(),
        }
        sums = {"brightness_sum": 240.0, "brightness_squares": 28_800.0, "focus_sum": 20.0, "focus_squares": 200.0}
        bus.send(worker, Appearance(**said, frames=2, **sums))
        peer.finish()
        until(lambda: station.stored() == 2 and station.stored("appearance") == 1, station.said)
        found = Statistics(station.query, CLOCK).shares(ALL, By.CAMERA)
        assert found.parts == sum(len(message.views) for message, _ in (first, second))
        seen = Statistics(station.query, CLOCK).chart(
            Chosen(camera="top", product="bracket"), Measure.BRIGHTNESS, Period.DAY, Rules.LIMITS, Baseline()
        )
        assert [(point.parts, point.value) for point in seen.points] == [(2, 120.0)]


LOOKS = """INSERT INTO appearance
    SELECT CAST(:end AS timestamptz) - n * interval '1 hour', 'st', camera, 'cap', 100, 100 * gray,
        100 * (gray * gray + 4), 5000 + 10 * (n % 3), 260000
    FROM (SELECT n, camera, CASE WHEN camera = 'top' AND n <= 12 THEN 100 ELSE 120 + (n * 7) % 5 END AS gray
        FROM generate_series(1, 150) AS n, (VALUES ('side'), ('top')) AS one (camera)) AS seen"""


def test_a_lamp_that_fails_is_told_of_by_camera_and_product(stored: tuple[Statistics, Rows, QueryService]) -> None:
    _, _, query = stored
    with query.connected() as connection:
        connection.execute(text(LOOKS), {"end": END + timedelta(days=30)})
        told = list(drift.drifted(connection, "st", END + timedelta(days=30, minutes=20)))
        assert len(told) == 1
        assert told[0].startswith("top: brightness of cap is 10")
        assert list(drift.drifted(connection, "other", END + timedelta(days=30, minutes=20))) == []
        assert list(drift.drifted(connection, "st", END + timedelta(days=40))) == []  # no images in the last hour
        connection.execute(text("DELETE FROM appearance WHERE station = 'st'"))
