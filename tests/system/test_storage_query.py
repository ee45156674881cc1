"""Queries against a real database that was filled the real way: through journal and writer."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import Servers
from sqlalchemy.pool import NullPool
from storage_process import JPEG, MS, RUN, verdict

from config.errors import ConfigurationError, ImageLostError, InputError, StoreError
from config.messages import Evidence, GateCommand, GateOutcome, GateReport, Judgement, Reason, Truth, encode
from config.station import ImagesSection
from storage.journal import Journal
from storage.migrate import check, migrate
from storage.postgres import PostgresWriter
from storage.query.answers import Bucket
from storage.query.filters import Filter, ReviewState
from storage.query.service import LARGEST_PAGE, QueryService
from storage.schema import metadata
from storage.store import Store, connect

BEGIN = datetime(2026, 11, 22, 10, tzinfo=UTC)
PARTS = 60


@pytest.fixture(scope="module")
def query(running_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryService]:
    """Sixty parts, three for each second, every tenth a REJECT and every fifteenth too late."""
    running_servers.ready()
    url = running_servers.database()
    records = []
    for number in range(PARTS):
        late = number % 15 == 14
        judgement = Judgement.FAULT if late else Judgement.REJECT if number % 10 == 0 else Judgement.PASS
        time = BEGIN + timedelta(seconds=number // 3)
        changes = {
            "trigger_time_ns": int(time.timestamp()) * 10**9,
            "product": "cap" if number >= 40 else "bracket",
            "trigger_ns": 0,
            "judged_ns": number * MS,
            "deadline_ns": 50 * MS,
            "truth": Truth(good=number % 10 != 0 and number != 7),
        }
        message, payload = verdict(number, judgement, **changes | ({"reasons": (Reason.LATE,)} if late else {}))
        records.append(encode(message, payload))
        if number % 2:
            report = GateReport(
                part_id=message.part_id,
                trigger_time_ns=message.trigger_time_ns,
                command=GateCommand.PASS,
                written_ns=(number + 2) * MS,
                outcome=GateOutcome.PASSED if number % 4 == 1 else None,
                reported_ns=0,
            )
            records.append(encode(report, []))
    # an image of a part whose verdict is still to come
    soon_ns = int((BEGIN + timedelta(minutes=1)).timestamp()) * 10**9
    seen = {"part_id": "st-r1-99999999", "trigger_time_ns": soon_ns, "camera": "top"}
    early = Evidence(**seen, purpose="image", region=None, width_px=1, height_px=1)
    records.append(encode(early, [JPEG]))
    fill(url, tmp_path_factory.mktemp("journal"), records)
    service = QueryService(url)
    yield service
    service.close()
    running_servers.drop(url)


def fill(url: str, folder: Path, records: list[list[bytes | memoryview]], store: Store | None = None) -> Counter[str]:
    counters: Counter[str] = Counter()
    journal = Journal(folder, 1 << 30, 0, counters)
    journal.append(records)
    writer = PostgresWriter(sqlalchemy.make_url(url), journal, store, counters)
    writer.start()
    writer.tried.wait(10)
    writer.stop(10)
    journal.close()
    assert writer.problem is None
    assert writer.backlog_bytes == 0
    return counters


def test_pages_hold_every_part_once_newest_first(query: QueryService) -> None:
    found, after = [], None
    while True:
        page = query.parts(Filter(), after, limit=7)
        found += [part.sequence for part in page.parts]
        after = page.after
        if after is None:
            break
        assert len(page.parts) == 7
    assert found == list(range(PARTS - 1, -1, -1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"since": BEGIN + timedelta(seconds=18)}, range(54, 60)),
        ({"until": BEGIN + timedelta(seconds=1)}, range(3)),
        ({"run": RUN, "station": "st", "product": "cap"}, range(40, 60)),
        ({"run": "another"}, ()),
        ({"verdicts": ["REJECT", "FAULT"]}, (0, 10, 14, 20, 29, 30, 40, 44, 50, 59)),
        ({"reason": "LATE"}, (14, 29, 44, 59)),
        ({"reason": "OVERRUN"}, ()),
        ({"score_min": 2.9}, range(0, 60, 10)),
        ({"score_max": 1.0, "product": "cap", "verdicts": ["FAULT"]}, (44, 59)),
        ({"camera": "top", "part_id": "st-r1-00000007"}, (7,)),
        ({"camera": "side"}, ()),
    ],
)
def test_filter_finds_what_it_says(query: QueryService, values: dict[str, object], expected: range) -> None:
    chosen = Filter.parse(values)
    assert sorted(part.sequence for part in query.parts(chosen, limit=100).parts) == list(expected)
    assert query.counts(chosen).total == len(expected)


def test_summary_counts_what_is_stored(query: QueryService) -> None:
    summary = query.summary(RUN)
    assert summary.recorded == PARTS
    assert summary.doubled == 0
    assert summary.verdicts == {Judgement.PASS: 50, Judgement.REJECT: 6, Judgement.REVIEW: 0, Judgement.FAULT: 4}
    truth = summary.truth
    assert (truth.good, truth.bad, truth.false_reject, truth.escape) == (53, 7, 4, 1)  # four good ones were FAULT
    assert summary.late == 12  # 14, 29, 44 and 59 by reason, 51 to 59 by the clock
    assert (summary.gate_commands, summary.gate_confirmed) == (30, 15)
    assert summary.trigger_to_verdict.p50_ms == pytest.approx(29.5)
    assert summary.trigger_to_verdict.max_ms == 59
    assert summary.trigger_to_gate.max_ms == 61
    assert summary.first_trigger == BEGIN
    assert summary.last_trigger == BEGIN + timedelta(seconds=19)


def test_unknown_run_and_part_are_empty(query: QueryService) -> None:
    summary = query.summary("never")
    assert (summary.recorded, summary.trigger_to_gate.p99_ms, summary.first_trigger) == (0, None, None)
    assert query.part("never") is None
    assert query.map("st-r1-00000001", "side") is None
    assert query.image("st-r1-00000001", "top", "image") is None


def test_part_shows_gate_and_map(query: QueryService) -> None:
    part = query.part("st-r1-00000005")
    assert part is not None
    assert (part.gate_outcome, part.gate_confirmed, part.trigger_to_gate_ms) == (GateOutcome.PASSED, True, 7)
    assert part.trigger_to_verdict_ms == 5
    assert part.deadline_ms == 50
    stored = query.map(part.part_id, "top")
    assert stored is not None
    assert stored.dtype == "float16"
    assert (stored == 5).all()
    assert "anomaly_map" not in part.model_dump_json()


@pytest.mark.parametrize("seconds", [0, 7, -3600, 19, 20])
def test_products_are_counted_since_a_time_whole_hour_or_not(query: QueryService, seconds: int) -> None:
    since = BEGIN + timedelta(seconds=seconds)
    expected: dict[str, Counter[str]] = {}
    for number in range(PARTS):
        if BEGIN + timedelta(seconds=number // 3) >= since:
            judged = "FAULT" if number % 15 == 14 else "REJECT" if number % 10 == 0 else "PASS"
            expected.setdefault("cap" if number >= 40 else "bracket", Counter())[judged] += 1
    found = {
        line.product: Counter({name.value: n for name, n in line.verdicts.items() if n})
        for line in query.by_product("st", since)
    }
    assert found == expected
    assert query.by_product("another", since) == ()


def test_choices_are_what_was_seen(query: QueryService) -> None:
    choices = query.choices()
    assert [one.name for one in choices.products] == ["cap", "bracket"]  # what was seen last comes first
    assert [(one.name, one.first, one.last) for one in choices.runs] == [(RUN, BEGIN, BEGIN + timedelta(seconds=19))]
    assert [one.name for one in choices.bundles] == ["0" * 64]
    assert query.parts(Filter(bundle="00000000")).parts


def test_progress_counts_a_stations_parts_since_its_run_began(query: QueryService) -> None:
    progress = query.progress(RUN, "st")
    assert progress.verdicts == query.summary(RUN).verdicts
    assert query.progress("never", "st").total == 0
    assert query.progress(RUN, "never").total == 0


def test_stream_gives_parts_whole_in_either_order(query: QueryService) -> None:
    parts = list(query.stream(Filter()))
    assert [part.sequence for part in parts] == list(range(PARTS))
    assert [part.sequence for part in query.stream(Filter(), oldest_first=False)] == list(range(PARTS - 1, -1, -1))
    assert [view.camera for view in parts[0].details] == ["top"]
    assert parts[0].details[0].regions
    assert parts[0].details[0].anomaly_map is None


def test_summary_of_a_long_run_is_given_up_in_time(query: QueryService) -> None:
    engine = sqlalchemy.create_engine(query._engine.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("LOCK TABLE verdict"))  # as long as that it cannot be read
        with pytest.raises(StoreError, match="statement timeout"):
            query.summary(RUN, within_s=0.05)
    assert query.summary(RUN).recorded == PARTS


def test_images_in_a_store_are_read_there(servers: Servers, tmp_path: Path) -> None:
    url = servers.database()
    (tmp_path / "images").mkdir()
    options = {"path": str(tmp_path / "images")}
    store = connect(ImagesSection(type="folder", options=options), "st")
    assert store is not None
    message, payload = verdict(1)
    seen = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
    exact = Evidence(**seen, purpose="image", region=None, encoding="png", width_px=1, height_px=1)
    fill(url, tmp_path, [encode(message, payload), encode(exact, [b"\x89PNG bytes"])], store)
    service, without = QueryService(url, store), QueryService(url)
    assert service.image(message.part_id, "top", "image") == b"\x89PNG bytes"
    assert [image.encoding for image in service.parts(Filter()).parts[0].images] == ["png"]
    with pytest.raises(StoreError, match="names none"):
        without.image(message.part_id, "top", "image")
    for pack in (tmp_path / "images").rglob("*.pack"):
        pack.unlink()
    with pytest.raises(ImageLostError):
        service.image(message.part_id, "top", "image")
    for opened in (service, without, store):
        opened.close()
    servers.drop(url)


def test_image_may_come_before_its_verdict(query: QueryService) -> None:
    assert query.image("st-r1-99999999", "top", "image") == JPEG


TEXTS = st.none() | st.text(max_size=30)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "since": st.datetimes(timezones=st.just(UTC)),
            "until": st.datetimes(timezones=st.just(UTC)),
            **dict.fromkeys(
                ("run", "product", "line", "station", "recipe", "camera", "part_id", "defect_class"), TEXTS
            ),
            "recipe_version": st.integers(),
            "bundle": st.text("0123456789abcdef", max_size=70) | TEXTS,
            "verdicts": st.lists(st.sampled_from(Judgement)),
            "reason": st.sampled_from(Reason),
            **dict.fromkeys(("area_min_px", "area_max_px"), st.integers()),
            **dict.fromkeys(("score_min", "score_max", "x_min", "x_max", "y_min", "y_max"), st.floats()),
            **dict.fromkeys(("challenge", "gate_confirmed"), st.booleans()),
            "review": st.sampled_from(ReviewState),
        },
    ),
    st.text(max_size=30),
    st.integers(-1, LARGEST_PAGE + 1),
    st.tuples(st.datetimes(timezones=st.just(UTC)), TEXTS),
)
def test_any_question_is_answered_or_an_input_error(
    query: QueryService, values: dict[str, object], name: str, limit: int, key: tuple[datetime, str | None]
) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps([key[0].isoformat(), key[1]]).encode()).decode()
    for ask in (
        lambda: query.parts(Filter.parse(values), limit=limit),
        lambda: query.parts(Filter.parse(values), cursor),
        lambda: query.first_page(Filter.parse(values), limit),
        lambda: query.counts(Filter.parse(values)),
        lambda: [query.rates(Filter.parse(values), bucket) for bucket in Bucket],
        lambda: list(query.stream(Filter.parse(values))),
        lambda: query.progress(name, name),
        lambda: query.part(name),
        lambda: query.image(name, name, "crop", 0),
        lambda: query.map(name, name),
        lambda: query.summary(name),
    ):
        try:
            ask()
        except InputError:
            continue


def test_records_that_come_twice_are_stored_once(servers: Servers, tmp_path: Path) -> None:
    url = servers.database()
    records = [encode(*verdict(number)) for number in range(20)]
    fill(url, tmp_path, records + records[:10])
    fill(url, tmp_path, records)  # the same journal goes on
    (tmp_path / "other").mkdir()
    counters = fill(url, tmp_path / "other", records)
    assert counters["rows_already_stored"] == 40  # twenty parts, a view each
    service = QueryService(url)
    summary = service.summary(RUN)
    assert (summary.recorded, summary.doubled) == (20, 0)
    service.close()
    servers.drop(url)


def test_revisions_make_the_schema_and_unmake_it(servers: Servers) -> None:
    url = servers.database(migrated=False)
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection, pytest.raises(StoreError, match="revision none"):
        check(connection)
    migrate(url)
    migrate(url)
    with engine.connect() as connection:
        check(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrate(url, "base")
    with engine.connect() as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == ["alembic_version"]
    servers.drop(url)


def test_migration_says_what_is_wrong() -> None:
    with pytest.raises(ConfigurationError, match="database URL"):
        migrate("nonsense")
    with pytest.raises(StoreError, match="cannot be brought to revision head") as raised:
        migrate("postgresql+psycopg://me:secret@/andon?host=/nowhere")
    assert "secret" not in str(raised.value)
