"""What waits for reviewers, what reviews tell, and picks to train from, on a real server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import sqlalchemy
from live_servers import Servers
from sqlalchemy import Connection, Engine, insert, text, update
from sqlalchemy.pool import NullPool
from stored_parts import StoredPart, store_parts

from config.errors import InputError
from config.messages import Judgement
from config.station import RetentionSection
from deploy.cli import main
from storage import audit
from storage.picks import Picks
from storage.query.desk import Desk
from storage.query.filters import Filter
from storage.query.service import QueryService
from storage.query.waiting import Opinion, Wanted
from storage.retention.sweep import Sweep
from storage.reviews import Reviews
from storage.sampling import in_sample, sampled
from storage.schema import defect, image, seen, verdict, view

PASS, REJECT, REVIEW, FAULT = Judgement
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SAMPLE = {PASS: 0.1, REVIEW: 1.0, REJECT: 0.3, FAULT: 0.0}
KINDS = ("PASS",) * 12 + ("REVIEW", "REJECT", "REJECT", "FAULT")
PARTS = [
    StoredPart(f"st-r1-{number:08}", NOW - timedelta(seconds=30 * number), KINDS[number * 7 % len(KINDS)])
    for number in range(3000)
]
MEANT = [part for part in PARTS if sampled(part.part_id, SAMPLE[Judgement(part.judgement)])]


@pytest.fixture(scope="module")
def history(running_servers: Servers) -> Iterator[Engine]:
    """A database with parts of a day, one every half minute."""
    running_servers.ready()
    url = running_servers.database()
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        store_parts(connection, PARTS)
        _see(connection)
    yield engine
    running_servers.drop(url)


@pytest.fixture
def reviews(history: Engine, tmp_path: Path) -> Iterator[Reviews]:
    with history.begin() as connection:
        connection.execute(text("TRUNCATE review, hold, pick"))
    made = Reviews(history.url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(history: Engine, reviews: Reviews) -> Iterator[Desk]:  # noqa: ARG001 - it empties the tables
    service = QueryService(history.url)
    yield Desk(service)
    service.close()


def _see(connection: Connection) -> None:
    for kind, name in (("station", "st"), ("line", "1"), ("product", "bracket"), ("run", "r1"), ("camera", "top")):
        times = {"first_time": PARTS[-1].time, "last_time": PARTS[0].time}
        connection.execute(insert(seen).values(kind=kind, name=name, **times))


def wanted(reviewer: str = "ann", **changes: object) -> Wanted:
    return replace(Wanted(reviewer, SAMPLE), **changes)  # type: ignore[arg-type]  # fields of its own


def all_of(desk: Desk, asked: Wanted, limit: int = 50) -> list[str]:
    """Return all parts that a queue hands out, page by page."""
    found: list[str] = []
    after = None
    while True:
        page = desk.queue(asked, after, limit)
        assert len(page.parts) <= limit
        found += [one.part.part_id for one in page.parts]
        after = page.after
        if after is None:
            return found


def test_the_sample_of_sql_is_that_of_python(history: Engine) -> None:
    with history.connect() as connection:
        for rate in (0.0, 0.013, 0.5, 1.0):
            rows = connection.execute(sqlalchemy.select(verdict.c.part_id).where(in_sample(verdict.c.part_id, rate)))
            assert set(rows.scalars()) == {part.part_id for part in PARTS if sampled(part.part_id, rate)}


@pytest.mark.parametrize("oldest_first", [False, True])
def test_exactly_the_sample_waits_in_order(desk: Desk, *, oldest_first: bool) -> None:
    expected = [part.part_id for part in MEANT]
    asked = wanted(oldest_first=oldest_first)
    assert all_of(desk, asked) == (expected[::-1] if oldest_first else expected)
    assert all_of(desk, asked, 7) == (expected[::-1] if oldest_first else expected)


def test_filters_bound_what_waits(desk: Desk) -> None:
    since, until = NOW - timedelta(hours=3), NOW - timedelta(hours=1)
    inside = [part.part_id for part in MEANT if since <= part.time < until]
    assert all_of(desk, wanted(since=since, until=until)) == inside
    only = wanted(sample={**dict.fromkeys(Judgement, 0.0), REJECT: SAMPLE[REJECT]})
    assert all_of(desk, only) == [part.part_id for part in MEANT if part.judgement == "REJECT"]
    assert all_of(desk, wanted(product="board")) == []
    assert all_of(desk, wanted(camera="left")) == []
    assert len(all_of(desk, wanted(product="bracket", camera="top"))) == len(MEANT)
    others = {part.part_id for part in MEANT[:3]}
    assert all_of(desk, wanted(others=others))[:2] == [part.part_id for part in MEANT[3:5]]
    with pytest.raises(InputError, match="after"):
        desk.queue(wanted(), "nonsense")


def test_what_is_reviewed_waits_for_a_second_opinion_only(desk: Desk, reviews: Reviews) -> None:
    for part in MEANT[:6]:
        reviews.add(part.part_id, "GOOD", "ann")
    reviews.add(MEANT[1].part_id, "DEFECT", "bob")
    reviews.hold(MEANT[2].part_id, "claim", "bob")
    assert all_of(desk, wanted("bob"))[:1] == [MEANT[6].part_id]
    second = desk.queue(wanted("bob", opinion=Opinion.SECOND), limit=10)
    assert [one.part.part_id for one in second.parts] == [MEANT[number].part_id for number in (0, 2, 3, 4, 5)]
    assert [one.hold is not None for one in second.parts] == [False, True, False, False, False]
    assert all_of(desk, wanted("ann", opinion=Opinion.SECOND), 1) == []


def test_a_part_without_a_picture_does_not_wait(desk: Desk, history: Engine) -> None:
    with history.begin() as connection:
        connection.execute(update(image).where(image.c.part_id == MEANT[0].part_id).values(purpose="crop"))
    try:
        assert all_of(desk, wanted())[0] == MEANT[1].part_id
    finally:
        with history.begin() as connection:
            connection.execute(update(image).where(image.c.part_id == MEANT[0].part_id).values(purpose="image"))


def test_results_count_the_sample_by_last_words(desk: Desk, reviews: Reviews) -> None:
    rejects = [part for part in MEANT if part.judgement == "REJECT"][:20]
    passed = [part for part in MEANT if part.judgement == "PASS"][:40]
    outside = next(part for part in PARTS if part.judgement == "REJECT" and part not in MEANT)
    for part in rejects:
        reviews.add(part.part_id, "DEFECT", "ann", defect_class="scratch")
    for part in rejects[:5]:
        reviews.add(part.part_id, "GOOD", "ann")  # the last word counts
    reviews.add(rejects[6].part_id, "GOOD", "bob")  # they disagree
    reviews.add(rejects[7].part_id, "DEFECT", "bob")
    reviews.add(rejects[8].part_id, "GOOD", "bob", camera="top")  # of a view, not of the part
    reviews.add(outside.part_id, "GOOD", "ann")
    for part in passed:
        reviews.add(part.part_id, "GOOD", "ann")
    reviews.add(passed[0].part_id, "DEFECT", "ann")
    told = desk.confusion(Filter(), SAMPLE)
    of = {one.verdict: one for one in told.verdicts}
    assert (of[REJECT].good, of[REJECT].defect, of[REJECT].undecided) == (5, 14, 1)
    assert (of[PASS].good, of[PASS].defect, of[PASS].undecided) == (39, 1, 0)
    counts = Counter(part.judgement for part in PARTS)
    assert {one.verdict.value: one.parts for one in told.verdicts} == counts
    # by scipy.stats.binomtest(14, 19).proportion_ci(method="exact")
    assert (of[REJECT].defective.low, of[REJECT].defective.high) == pytest.approx((0.487970, 0.908533), abs=1e-5)
    assert told.escapes.share is None  # nobody has looked at any REVIEW
    assert 0 < told.escapes.low < told.escapes.high <= 1
    assert desk.confusion(Filter(product="board"), SAMPLE).verdicts[0].parts == 0
    assert desk.confusion(Filter(until=NOW - timedelta(days=30)), SAMPLE).verdicts[1].good == 0
    with pytest.raises(InputError, match="camera"):
        desk.confusion(Filter(camera="top"), SAMPLE)
    agreement = desk.agreement(Filter())
    assert (agreement.parts, agreement.disputed) == (2, 1)
    assert [(pair.first, pair.second, pair.parts, pair.agreed) for pair in agreement.pairs] == [("ann", "bob", 2, 1)]
    assert agreement.pairs[0].kappa == pytest.approx(0.0)
    assert [(one.name, one.reviews) for one in desk.classes()] == [("scratch", 20)]


def test_results_of_a_bundle_are_of_its_hours(desk: Desk, reviews: Reviews, history: Engine) -> None:
    digest = "sha256:" + "ab" * 32
    recent = NOW - timedelta(hours=2)
    with history.begin() as connection:
        connection.execute(update(view).where(view.c.trigger_time > recent).values(bundle_digest=digest))
        connection.execute(insert(seen).values(kind="bundle", name=digest, first_time=recent, last_time=NOW))
    later = [part for part in MEANT if part.time > recent]
    reviews.add(later[0].part_id, "GOOD", "ann")
    reviews.add(MEANT[-1].part_id, "GOOD", "ann")
    told = desk.confusion(Filter(bundle="ab" * 6), SAMPLE)
    assert sum(one.good for one in told.verdicts) == 1
    assert sum(one.parts for one in told.verdicts) == sum(part.time >= recent for part in PARTS)


@pytest.fixture
def pictures(history: Engine) -> list[StoredPart]:
    """Parts whose views have every pixel, 8 x 6 px."""
    chosen = [part for part in PARTS if part.judgement == "REJECT"][:20]
    _, content = cv2.imencode(".png", np.arange(144, dtype=np.uint8).reshape(6, 8, 3))
    ids = [part.part_id for part in chosen]
    with history.begin() as connection:
        size = {"width_px": 8, "height_px": 6, "encoding": "png", "content": content.tobytes()}
        connection.execute(update(image).where(image.c.part_id.in_(ids)).values(**size, size_bytes=len(content)))
        frame = {"frame_width_px": 8, "frame_height_px": 6, "frame_channels": 3, "map_height": None, "map": None}
        connection.execute(update(view).where(view.c.part_id.in_(ids)).values(**frame))
        connection.execute(update(defect).where(defect.c.part_id.in_(ids)).values(width_px=2))
    return chosen


@pytest.fixture
def picks(history: Engine, reviews: Reviews, tmp_path: Path) -> Iterator[Picks]:  # noqa: ARG001 - it empties the tables
    made = Picks(history.url, tmp_path)
    yield made
    made.close()


def test_picks_are_kept_changed_and_taken_back(
    picks: Picks, pictures: list[StoredPart], history: Engine, tmp_path: Path
) -> None:
    one, two = pictures[0].part_id, pictures[1].part_id
    picks.add(one, "top", "eve")
    changed = picks.add(one, "top", "ann", "scratch")
    assert (changed.good, changed.defect_class, changed.person, changed.product) == (False, "scratch", "ann", "bracket")
    picks.add(two, "top", "eve")
    assert [(count.product, count.camera, count.good, count.defective) for count in picks.counts()] == [
        ("bracket", "top", 1, 1)
    ]
    first = picks.page(limit=1)
    assert [pick.part_id for pick in first.picks] == [two]
    assert [pick.part_id for pick in picks.page(after=first.after).picks] == [one]
    assert picks.page("board").picks == ()
    picks.remove(two, "top", "eve")
    assert set(picks.of([one, two])) == {one}
    for wrong, said in (
        ({"part_id": "st-r1-x"}, "no such part"),
        ({"camera": "left"}, "no such view"),
        ({"defect_class": "../x"}, "defect_class"),
        ({"part_id": MEANT[-1].part_id}, "smaller|JPEG"),
        ({"person": " "}, "person"),
    ):
        with pytest.raises(InputError, match=said):
            picks.add(**{"part_id": one, "camera": "top", "person": "eve", "defect_class": None, **wrong})
    with pytest.raises(InputError, match="not picked"):
        picks.remove(two, "top", "eve")
    with pytest.raises(InputError, match="after"):
        picks.page(after="x")
    with history.connect() as connection, connection.begin():
        noted = audit.Anchor(tmp_path).read()
        assert audit.verify(connection, {"note": noted} if noted else {}).whole
        actions = [entry.action for entry in audit.newest(connection, 4)][::-1]
    assert actions == ["pick.added", "pick.changed", "pick.added", "pick.removed"]


def test_picks_become_a_folder_to_train_from(
    picks: Picks, pictures: list[StoredPart], history: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANDON_DATABASE_URL", history.url.render_as_string(hide_password=False))
    out = tmp_path / "set"
    words = ["export", "--picked", "bracket", "--out", str(out), "--home", str(tmp_path)]
    assert main(words) != 0  # nothing is picked
    for number, part in enumerate(pictures):
        picks.add(part.part_id, "top", "eve", "scratch" if number % 5 == 0 else None)
    assert main(words) == 0
    assert len(list((out / "test" / "scratch").iterdir())) == 4
    good = [*(out / "train" / "good").iterdir(), *(out / "test" / "good").glob("*")]
    assert len(good) == 16
    pixels = cv2.imread(str(good[0]))
    assert pixels is not None
    assert np.array_equal(pixels, np.arange(144, dtype=np.uint8).reshape(6, 8, 3))


def test_retention_keeps_what_is_picked(servers: Servers, tmp_path: Path) -> None:
    url = servers.database()
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    parts = [StoredPart(f"st-r1-{number:08}", NOW - timedelta(days=60, seconds=number)) for number in range(20)]
    with engine.begin() as connection:
        store_parts(connection, parts)
        connection.execute(
            text("INSERT INTO pick VALUES (:part_id, 'top', :time, 'bracket', true, NULL, 'eve')"),
            {"part_id": parts[3].part_id, "time": parts[3].time},
        )
    keep = RetentionSection.model_validate({"free_disk_mb": 0, "rows_days": {"PASS": 10}, "images_days": {"PASS": 10}})
    Sweep(engine.url, tmp_path, "st", keep, None, Counter()).run(NOW)
    with engine.connect() as connection:
        for table in ("verdict", "view", "image", "defect", "gate_report"):
            left = connection.execute(text(f"SELECT part_id FROM {table}")).scalars().all()  # noqa: S608 - ours
            assert left == [parts[3].part_id], table
    servers.drop(url)
