"""Since when? Asked of a real database that was filled the real way, with changes planted where we know them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy
from live_servers import Servers
from msgspec.structs import replace
from sqlalchemy.pool import NullPool
from storage_process import verdict

from config.errors import InputError, StoreError
from config.messages import Judgement, Reason, Region, encode
from storage.journal import Journal
from storage.postgres import PostgresWriter
from storage.query import since
from storage.query.filters import Filter
from storage.query.population import What
from storage.query.since import since_when

BEGIN = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
PARTS = 3000
EVERY_S = 120  # a hundred hours in all
REJECTS_FROM, SCORES_FROM, DEFECTS_FROM = 2200, 1500, 2800


def _planted() -> dict[str, np.ndarray]:
    """Rejects rise from 2 % to 15 %, scores by one standard deviation, defects on the right side from 5 % to 50 %."""
    rng = np.random.default_rng(3)
    number = np.arange(PARTS)
    return {
        "rejected": rng.random(PARTS) < np.where(number >= REJECTS_FROM, 0.15, 0.02),
        "score": 1 + 0.1 * rng.normal(size=PARTS) + np.where(number >= SCORES_FROM, 0.1, 0),
        "right": rng.random(PARTS) < np.where(number >= DEFECTS_FROM, 0.5, 0.05),
        "scored": number % 100 != 50,
        "cap": number % 2 == 1,
    }


PLANTED = _planted()


@pytest.fixture(scope="module")
def url(running_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hundred hours of parts."""
    running_servers.ready()
    url = running_servers.database()
    records = []
    for number in range(PARTS):
        message, payload = verdict(number, Judgement.REJECT if PLANTED["rejected"][number] else Judgement.PASS)
        x_px = 50 if PLANTED["right"][number] else 4
        region = Region(x_px=x_px, y_px=2, width_px=3, height_px=4, area_px=11, score=3.0)
        score = float(PLANTED["score"][number]) if PLANTED["scored"][number] else None
        changes = {
            "trigger_time_ns": int((BEGIN + timedelta(seconds=EVERY_S * number)).timestamp()) * 10**9,
            "views": (replace(message.views[0], score=score, regions=(region,)),),
            "recipe_version": 2 if number >= REJECTS_FROM else 1,
            "product": "cap" if PLANTED["cap"][number] else "bracket",
        }
        records.append(encode(replace(message, **changes), payload))
    fill(url, tmp_path_factory.mktemp("journal"), records)
    yield url
    running_servers.drop(url)


def fill(url: str, folder: Path, records: list[list[bytes | memoryview]]) -> None:
    counters: Counter[str] = Counter()
    journal = Journal(folder, 1 << 30, 0, counters)
    journal.append(records)
    writer = PostgresWriter(sqlalchemy.make_url(url), journal, None, counters)
    writer.start()
    writer.tried.wait(10)
    writer.stop(20)
    journal.close()
    assert writer.problem is None
    assert writer.backlog_bytes == 0


def farthest(before: float, after: float, sd: float | None = None) -> float:
    """Return how many parts off a change is found at most, but for one case in a thousand: by Chernoff's bound.

    The likelihood prefers a place `d` parts off with a probability of at most exp(-d C), on either side.
    """
    if sd is not None:
        information = (after - before) ** 2 / (8 * sd**2)
    else:
        s = np.linspace(0.01, 0.99, 99)
        together = before**s * after ** (1 - s) + (1 - before) ** s * (1 - after) ** (1 - s)
        information = -float(np.log(together.min()))
    return float(np.log(2 / 1e-3)) / information


@pytest.mark.parametrize(
    ("most_parts", "few_hours"),
    [(since.MOST_PARTS, since.FEW_HOURS), (1000, since.FEW_HOURS), (1000, 1000)],
    ids=["by parts", "by hours", "by spans"],
)
@pytest.mark.parametrize(
    ("what", "values", "planted", "off"),
    [
        (What.REJECTS, {}, REJECTS_FROM, farthest(0.02, 0.15)),
        (What.REJECTS, {"product": "cap"}, REJECTS_FROM, 2 * farthest(0.02, 0.15)),  # every other part
        (What.SCORE, {}, SCORES_FROM, farthest(1.0, 1.1, 0.1)),
        (What.SCORE, {"verdicts": ["PASS"]}, SCORES_FROM, farthest(1.0, 1.1, 0.1) / 0.85),
        (What.DEFECTS, {"x_min": 0.5}, DEFECTS_FROM, farthest(0.05, 0.5)),
        (What.DEFECTS, {"x_min": 0.5, "station": "st"}, DEFECTS_FROM, farthest(0.05, 0.5)),
    ],
)
def test_a_planted_change_is_found(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    most_parts: int,
    few_hours: int,
    what: What,
    values: dict[str, object],
    planted: int,
    off: float,
) -> None:
    monkeypatch.setattr(since, "MOST_PARTS", most_parts)
    monkeypatch.setattr(since, "FEW_HOURS", few_hours)
    answer = since_when(url, Filter.parse(values), what)
    change = answer.change
    assert change is not None
    assert change.first is not None
    assert change.last_before is not None
    assert answer.complete
    found = int(change.first.part_id[-8:])
    assert abs(found - planted) <= off
    assert change.at == change.first.trigger_time == BEGIN + timedelta(seconds=EVERY_S * found)
    assert change.earliest <= change.at <= change.latest
    counted = np.ones(PARTS, bool)
    if values.get("product"):
        counted &= PLANTED["cap"]
    if values.get("verdicts"):
        counted &= ~PLANTED["rejected"]
    if what is What.SCORE:
        counted &= PLANTED["scored"]
    value = {What.REJECTS: "rejected", What.SCORE: "score", What.DEFECTS: "right"}[what]
    chosen, number = PLANTED[value][counted].astype(float), np.flatnonzero(counted)
    assert int(change.last_before.part_id[-8:]) == number[number < found].max()
    start = max((int(other.at.timestamp() - BEGIN.timestamp()) // EVERY_S for other in answer.others), default=0)
    for level, inside in ((change.before, (number >= start) & (number < found)), (change.after, number >= found)):
        assert level.parts == inside.sum()  # to the part, whichever way it was found
        assert level.value == pytest.approx(chosen[inside].mean())
        assert level.low < level.value < level.high
    versions = (change.last_before.recipe_version, change.first.recipe_version)
    assert versions == (1 if found <= REJECTS_FROM else 2, 2 if found >= REJECTS_FROM else 1)


def test_nothing_is_found_where_nothing_changed(url: str) -> None:
    calm = Filter.parse({"until": BEGIN + timedelta(seconds=EVERY_S * SCORES_FROM)})
    for what in (What.SCORE, What.REJECTS, What.DEFECTS, What.FAULT):
        answer = since_when(url, calm, what)
        assert answer.change is None, what
        assert answer.complete
    assert answer.note == "all parts are alike"
    assert answer.parts == SCORES_FROM


def test_few_parts_and_none(url: str) -> None:
    few = since_when(url, Filter(until=BEGIN + timedelta(seconds=EVERY_S * 4)), What.SCORE)
    assert (few.change, few.parts) == (None, 4)
    assert few.note.startswith("too few parts: 4")
    none = since_when(url, Filter(product="never"), What.REJECTS)
    assert (none.parts, none.since, none.change) == (0, None, None)


def test_a_bound_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(since, "MOST_PARTS", 1000)
    answer = since_when(url, Filter(camera="top"), What.REJECTS)  # tallies know nothing of cameras
    assert answer.parts == 1000
    assert not answer.complete
    assert answer.note == "only the latest 1000 parts were looked at"
    assert answer.change is not None


def test_one_does_not_choose_by_what_is_counted(url: str) -> None:
    for values in ({"verdicts": ["PASS"]}, {"reason": Reason.LATE}):
        with pytest.raises(InputError, match="cannot be chosen"):
            since_when(url, Filter.parse(values), What.REJECTS)


def test_a_server_that_is_away() -> None:
    with pytest.raises(StoreError, match="PostgreSQL"):
        since_when("postgresql+psycopg://me@/andon?host=/nowhere", Filter(), What.SCORE)


def test_parts_that_retention_removed_are_no_change(servers: Servers, tmp_path: Path) -> None:
    """Passed parts of the first week are gone, rejects are kept: the tallies still tell that nothing changed then."""
    url = servers.database()
    records = []
    for number in range(2000):
        message, payload = verdict(number, Judgement.REJECT if number % 25 == 0 or number >= 1900 else Judgement.PASS)
        time = BEGIN + timedelta(seconds=600 * number)  # two weeks
        records.append(encode(replace(message, trigger_time_ns=int(time.timestamp()) * 10**9), payload))
    fill(url, tmp_path, records)
    gone = BEGIN + timedelta(days=7)
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("DELETE FROM verdict WHERE verdict = 'PASS' AND trigger_time < :gone"), {"gone": gone}
        )
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO audit (number, at, who, action, subject, hash) "
                "VALUES (1, now(), 'storage', 'retention.swept', 'st', '')"
            )
        )
    answer = since_when(url, Filter(), What.REJECTS)
    assert answer.change is not None
    assert answer.change.first is not None
    assert answer.change.first.part_id.endswith("1900")
    assert not answer.others
    assert answer.parts > 1900  # gone ones are counted, too
    unknown_to_tallies = since_when(url, Filter(camera="top"), What.REJECTS)
    assert not unknown_to_tallies.complete
    assert unknown_to_tallies.change is not None
    assert unknown_to_tallies.change.first == answer.change.first
    assert "retention has removed parts before 2026-11-30" in unknown_to_tallies.note
    servers.drop(url)
