"""The search for stored parts in a made-up history of two weeks: every filter, against rows looked at one by one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import Servers
from sqlalchemy import event, select, text
from sqlalchemy.pool import NullPool

from config.errors import InputError
from config.messages import Judgement, Reason
from deploy.bench import history
from deploy.bench.history import END, History
from storage.query import search
from storage.query.answers import Bucket, Counts
from storage.query.conditions import whole
from storage.query.counting import COUNTED
from storage.query.filters import Filter, ReviewState
from storage.query.service import QueryService
from storage.schema import review, verdict

PARTS = 20_000
HOUR = timedelta(hours=1)
BUNDLE = hashlib.sha256(b"cap16top").hexdigest()


PEOPLE = (  # more than in the history
    """INSERT INTO review (part_id, trigger_time, reviewer, finding)
    SELECT part_id, trigger_time, 'one', CASE sequence % 3 WHEN 0 THEN 'UNSURE' WHEN 1 THEN 'GOOD' ELSE 'DEFECT' END
    FROM verdict WHERE verdict = 'REVIEW' AND sequence % 2 = 0""",
    """INSERT INTO review (part_id, trigger_time, reviewer, finding)
    SELECT part_id, trigger_time, 'other', 'GOOD' FROM verdict WHERE verdict = 'REVIEW' AND sequence % 4 = 0""",
    """INSERT INTO hold (part_id, trigger_time, holder, reason)
    SELECT part_id, trigger_time, 'one', 'asked for' FROM verdict WHERE verdict = 'REJECT' AND sequence % 5 = 0
    ON CONFLICT DO NOTHING""",
)


@pytest.fixture(scope="module")
def filled(running_servers: Servers) -> Iterator[tuple[str, History]]:
    running_servers.ready()
    url = running_servers.database()
    made = History(PARTS, timedelta(minutes=1))
    history.make(url, made)
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in PEOPLE:
            connection.execute(text(statement))
    engine.dispose()
    yield url, made
    running_servers.drop(url)


@pytest.fixture(scope="module")
def query(filled: tuple[str, History]) -> Iterator[QueryService]:
    service = QueryService(filled[0])
    yield service
    service.close()


@pytest.fixture(scope="module")
def engine(filled: tuple[str, History]) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(filled[0], poolclass=NullPool)
    yield made
    made.dispose()


def meant(engine: sqlalchemy.Engine, chosen: Filter) -> list[tuple[datetime, str, str]]:
    """Return what a filter means, newest first, by one plain statement over all rows."""
    columns = (verdict.c.trigger_time, verdict.c.part_id, verdict.c.verdict)
    statement = select(*columns).where(*whole(chosen)).order_by(*(column.desc() for column in columns[:2]))
    with engine.connect() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(statement)]


def all_pages(query: QueryService, chosen: Filter, limit: int) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = query.parts(chosen, after, limit)
        found += [part.part_id for part in page.parts]
        assert (page.searched_to is None) or (len(page.parts) < limit)
        after = page.after
        if after is None:
            return found


FILTERS: dict[str, dict[str, object]] = {
    "times": {"since": END - 30 * HOUR, "until": END - HOUR},
    "line": {"line": "line 1", "since": END - 10 * HOUR},
    "station": {"station": "south", "since": END - 20 * HOUR},
    "camera": {"camera": "side", "since": END - 20 * HOUR},
    "product": {"product": "cap", "since": END - 30 * HOUR},
    "recipe": {"recipe": "gear", "verdicts": ["REVIEW"]},
    "recipe_version": {"recipe_version": 15, "verdicts": ["FAULT"]},
    "bundle": {"bundle": BUNDLE[:10], "verdicts": ["REJECT", "FAULT"]},
    "not_passed": {"verdicts": ["REJECT", "REVIEW", "FAULT"]},
    "reason": {"reason": "OVERRUN"},
    "frequent_reason": {"reason": "GRAY_ZONE"},
    "score": {"score_min": 0.699},
    "scores": {"score_min": 0.4, "score_max": 0.401},
    "class": {"defect_class": "crack"},
    "area": {"area_min_px": 2000, "area_max_px": 4000},
    "place": {"x_max": 0.2, "y_min": 0.5},
    "small_place": {"x_min": 0.4, "x_max": 0.5, "y_min": 0.4, "y_max": 0.5},
    "defect": {
        "defect_class": "scratch",
        "area_min_px": 500,
        "product": "gear",
        "camera": "top",
        "verdicts": ["REVIEW"],
    },
    "challenge": {"challenge": True},
    "no_challenge": {"challenge": False, "verdicts": ["REJECT"]},
    "unconfirmed": {"gate_confirmed": False},
    "confirmed": {"gate_confirmed": True, "verdicts": ["FAULT"]},
    **{f"review_{state}": {"review": state} for state in ReviewState if state is not ReviewState.UNREVIEWED},
    "review_unreviewed": {"review": "unreviewed", "verdicts": ["REJECT"], "product": "cap"},
    "nothing": {"verdicts": ["PASS"], "reason": "LATE"},
    "line_and_camera": {"line": "line 2", "camera": "side"},
}


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_finds_what_it_says(
    query: QueryService, engine: sqlalchemy.Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chosen = Filter.parse(FILTERS[name])
    expected = meant(engine, chosen)
    assert expected or name in {"nothing", "line_and_camera"}
    assert all_pages(query, chosen, 150) == [part_id for _, part_id, _ in expected]
    counts = query.counts(chosen)
    assert counts.total <= len(expected)
    assert counts.at_least or counts.verdicts == {one: Counter(row[2] for row in expected)[one] for one in Judgement}
    monkeypatch.setattr(search, "FEW", 0)  # so that what is few here is searched as if it were not
    monkeypatch.setattr(search, "FIRST", 20)
    monkeypatch.setattr(search, "NEXT", 300)
    assert all_pages(query, chosen, 200) == [part_id for _, part_id, _ in expected]
    streamed = [part.part_id for part in query.stream(chosen)]
    assert streamed == [part_id for _, part_id, _ in reversed(expected)]


def test_part_is_found_by_id_and_by_run(query: QueryService, filled: tuple[str, History]) -> None:
    part_id = filled[1].part_id(PARTS // 3)
    assert all_pages(query, Filter(part_id=part_id), 5) == [part_id]
    assert query.counts(Filter(part_id=part_id)).total == 1
    run = query.choices().runs[0]
    newest = query.parts(Filter(run=run.name), limit=1).parts[0]
    assert (newest.run, newest.trigger_time) == (run.name, run.last)


def test_what_was_never_seen_is_answered_at_once(query: QueryService) -> None:
    for name in ("line", "station", "camera", "product", "recipe", "run"):
        with counted(query) as statements:
            page, counts = query.first_page(Filter.parse({name: "never"}), 24)
        assert (page.parts, page.after, counts.total) == ((), None, 0)
        assert len(statements) == 1  # of `seen`
    assert query.parts(Filter(bundle="0123456789")).parts == ()


def test_search_stops_and_goes_on(query: QueryService, engine: sqlalchemy.Engine) -> None:
    """A search that finds nothing among so many rows says how far it came, and ends."""
    chosen = Filter.parse({"verdicts": ["PASS"], "score_min": 0.9})
    page, counts = query.first_page(chosen, 24)
    assert page.parts == ()
    if page.after is not None:
        assert page.searched_to is not None
        assert counts == Counts(total=0, verdicts=dict.fromkeys(Judgement, 0), at_least=True)
    assert all_pages(query, chosen, 24) == []
    assert meant(engine, chosen) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"station": "north"},
        {"product": "cap", "verdicts": ["REJECT"]},
        {"since": END - timedelta(hours=5, minutes=10), "until": END - timedelta(minutes=50)},
        {"since": END - timedelta(minutes=50), "until": END - timedelta(minutes=10), "line": "line 2"},
        {"since": END - 3 * HOUR, "until": END - 2 * HOUR},
        {"recipe_version": 15, "until": END - timedelta(hours=1, seconds=1)},
    ],
)
def test_tallies_count_exactly(query: QueryService, engine: sqlalchemy.Engine, values: dict[str, object]) -> None:
    chosen = Filter.parse(values)
    expected = meant(engine, chosen)
    counts = query.counts(chosen)
    assert not counts.at_least
    assert counts.total == len(expected)
    assert counts.verdicts == {one: Counter(row[2] for row in expected)[one] for one in Judgement}
    for bucket in (Bucket.HOUR, Bucket.DAY, Bucket.WEEK):
        rates = query.rates(chosen, bucket)
        assert sum(point.parts for point in rates.points) == len(expected)
        assert [point.start for point in rates.points] == sorted({start_of(row[0], bucket) for row in expected})


def start_of(time: datetime, bucket: Bucket) -> datetime:
    hour = time.replace(minute=0, second=0, microsecond=0)
    if bucket is Bucket.HOUR:
        return hour
    day = hour.replace(hour=0)
    return day if bucket is Bucket.DAY else day - timedelta(days=day.weekday())


def test_rates_by_the_minute_and_of_other_filters(query: QueryService, engine: sqlalchemy.Engine) -> None:
    chosen = Filter(since=END - 2 * HOUR, until=END)
    rates = query.rates(chosen, Bucket.MINUTE)
    assert len(rates.points) == 120
    assert sum(point.parts for point in rates.points) == len(meant(engine, chosen))
    late = Filter(reason=Reason.LATE)
    points = query.rates(late, Bucket.DAY).points
    assert sum(point.verdicts[Judgement.FAULT] for point in points) == len(meant(engine, late))
    point = query.rates(Filter(score_min=0.5, verdicts=frozenset({Judgement.PASS})), Bucket.WEEK).points[-1]
    assert point.mean_score is not None
    assert point.mean_score > 0.5
    with pytest.raises(InputError, match="bucket: minutes"):
        query.rates(Filter(), Bucket.MINUTE)


def test_counts_stop_where_counting_one_by_one_would_take_long(query: QueryService) -> None:
    counts = query.counts(Filter(challenge=False))
    assert counts.at_least
    assert counts.total == COUNTED


def test_reviewers_last_words_count(query: QueryService, engine: sqlalchemy.Engine) -> None:
    part = query.parts(Filter(review=ReviewState.UNREVIEWED, verdicts=frozenset({Judgement.REVIEW})), limit=1).parts[0]

    def say(reviewer: str, finding: str, camera: str | None = None) -> None:
        row = {"part_id": part.part_id, "trigger_time": part.trigger_time, "reviewer": reviewer, "finding": finding}
        with engine.begin() as connection:
            connection.execute(review.insert().values(**row, camera=camera))

    def states() -> set[ReviewState]:
        found = (Filter(review=state, part_id=part.part_id) for state in ReviewState)
        return {chosen.review for chosen in found if chosen.review and query.parts(chosen).parts}

    assert states() == {ReviewState.UNREVIEWED}
    say("one", "DEFECT", "top")
    assert states() == {ReviewState.REVIEWED}
    say("one", "GOOD")
    assert states() == {ReviewState.REVIEWED, ReviewState.GOOD}
    say("other", "DEFECT")
    assert states() == {ReviewState.REVIEWED, ReviewState.DISPUTED}
    say("one", "DEFECT")
    assert states() == {ReviewState.REVIEWED, ReviewState.DEFECT}


class counted:  # noqa: N801 - reads as a `with` clause
    """The statements of a service meanwhile."""

    def __init__(self, query: QueryService) -> None:
        self._engine = query._engine
        self._said: list[tuple[str, Any]] = []

    def __enter__(self) -> list[tuple[str, Any]]:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self._said

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        self._said.append((statement, parameters))


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ({"verdicts": ["REJECT", "REVIEW", "FAULT"]}, "verdict_notable"),
        ({"verdicts": ["FAULT"], "product": "cap"}, "verdict_notable"),
        ({}, "verdict_time"),
        ({"reason": "CAMERA_DOWN"}, "verdict_reasons"),
        ({"score_min": 3.0}, "verdict_score"),
        ({"challenge": True}, "verdict_challenge"),
        ({"defect_class": "crack"}, "defect_class_time"),
        ({"area_min_px": 20_000}, "defect_area"),
        ({"x_min": 0.5, "x_max": 0.51, "y_min": 0.5, "y_max": 0.51}, "defect_center"),
        ({"gate_confirmed": False}, "gate_report_unconfirmed"),
        ({"bundle": BUNDLE}, "view_bundle"),
        ({"review": "good"}, "review_time"),
        ({"part_id": History(PARTS, timedelta(minutes=1)).part_id(7)}, "verdict_pkey"),
    ],
)
def test_the_index_that_is_meant_is_used(
    query: QueryService,
    engine: sqlalchemy.Engine,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, object],
    index: str,
) -> None:
    monkeypatch.setattr(search, "FIRST", 1)  # so that the tallies are asked
    with counted(query) as statements:
        query.first_page(Filter.parse(values), 24)
    used: set[str] = set()
    with engine.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))  # a table of this size may well be read whole
        cursor = connection.connection.cursor()
        for statement, parameters in statements:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            used |= {word for row in cursor.fetchall() for word in str(row[0]).split()}
        of_partitions = connection.execute(
            text(
                "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
                "JOIN pg_class parent ON parent.oid = inhparent WHERE parent.relname = :index "
                "UNION SELECT relname FROM pg_class WHERE relname = :index OR relname LIKE 'verdict_%_pkey' "
                "AND :index = 'verdict_pkey'"
            ),
            {"index": index},
        )
        assert used & set(of_partitions.scalars())


def random_filters(made: History) -> st.SearchStrategy[dict[str, object]]:
    times = st.datetimes(
        min_value=(made.start - HOUR).replace(tzinfo=None), max_value=(END + HOUR).replace(tzinfo=None)
    ).map(lambda time: time.replace(tzinfo=END.tzinfo))
    shares = st.floats(0, 1)
    return st.fixed_dictionaries(
        {},
        optional={
            "since": times,
            "until": times,
            "line": st.sampled_from(["line 1", "line 2"]),
            "camera": st.sampled_from(["top", "side"]),
            "product": st.sampled_from([*history.PRODUCTS, "never"]),
            "recipe_version": st.integers(14, 16),
            "verdicts": st.lists(st.sampled_from(Judgement), max_size=3),
            "reason": st.sampled_from(Reason),
            "bundle": st.just(BUNDLE[:9]),
            "score_min": st.floats(0, 2),
            "score_max": st.floats(0, 3),
            "defect_class": st.sampled_from(["scratch", "crack"]),
            "area_min_px": st.integers(0, 5000),
            "x_min": shares,
            "y_max": shares,
            "challenge": st.booleans(),
            "gate_confirmed": st.booleans(),
            "review": st.sampled_from(ReviewState),
        },
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_filters_together_find_what_they_say(
    filled: tuple[str, History], query: QueryService, engine: sqlalchemy.Engine, data: st.DataObject
) -> None:
    try:
        chosen = Filter.parse(data.draw(random_filters(filled[1])))
    except InputError:
        return
    expected = meant(engine, chosen)
    page, counts = query.first_page(chosen, 40)
    found = [part.part_id for part in page.parts]
    assert found == [part_id for _, part_id, _ in expected[: len(found)]]
    assert len(found) == min(40, len(expected)) or page.searched_to is not None
    assert counts.total == len(expected) or (counts.at_least and counts.total < len(expected))
    if page.after is not None:
        following = query.parts(chosen, page.after, 40)
        start = len(found)
        assert [part.part_id for part in following.parts] == [
            part_id for _, part_id, _ in expected[start : start + len(following.parts)]
        ]


def test_questions_of_the_bench_can_all_be_asked(filled: tuple[str, History], query: QueryService) -> None:
    from deploy.bench.questions import questions  # noqa: PLC0415 - the only use

    asked = questions(filled[1], Random(3))
    assert len(asked) > 60
    for ask in asked.values():
        ask(query)
