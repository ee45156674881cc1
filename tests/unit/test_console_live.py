"""The live feed: what a browser gets first, after an absence, and when it is too slow."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from config.messages import GateCommand, GateOutcome, GateReport, Health, Judgement, Verdict, View
from config.station import CameraSection, PlcSection, Station
from storage.console.live import LiveFeed
from storage.console.models import PartChange
from storage.console.streams import News

STATION = Station(
    station="st",
    recipes={"demo": Path("demo.toml")},
    recipe="demo",
    cameras=(CameraSection(name="top", type="folder"),),
    plc=PlcSection(type="modbus"),
)


def verdict(number: int, judgement: Judgement = Judgement.PASS) -> Verdict:
    view = View(camera="top", verdict=judgement, score=1.0, review_above=2.0, reject_above=3.0, frame_shape=(8, 16, 1))
    return Verdict(
        part_id=f"st-r1-{number:08}",
        sequence=number,
        station="st",
        line="1",
        recipe="demo",
        recipe_version=1,
        recipe_digest="sha256:r",
        product="cap",
        verdict=judgement,
        reasons=(),
        views=(view,),
        gate=GateCommand.PASS,
        trigger_ns=1_000_000,
        trigger_time_ns=1_767_000_000_000_000_000 + number,
        deadline_ns=100_000_000,
        judged_ns=6_500_000,
    )


def gate_report(number: int) -> GateReport:
    return GateReport(
        part_id=f"st-r1-{number:08}",
        trigger_time_ns=1,
        command=GateCommand.PASS,
        written_ns=1,
        outcome=GateOutcome.PASSED,
        reported_ns=2,
    )


@pytest.fixture
def counters() -> Counter[str]:
    return Counter()


@pytest.fixture
def feed(counters: Counter[str]) -> LiveFeed:
    return LiveFeed(STATION, "redis://127.0.0.1:1/0", counters)


def parsed(text: bytes) -> list[tuple[str, str | None, Any]]:
    """Return kind, id and data of each event."""
    events = []
    for block in text.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return events


def test_new_browser_starts_from_a_snapshot(feed: LiveFeed) -> None:
    feed._take(News([verdict(number) for number in range(80)], [gate_report(79)]))
    _, first = feed.join(None)
    [(kind, _, snapshot)] = parsed(first)
    assert kind == "snapshot"
    assert [part["sequence"] for part in snapshot["parts"]] == list(range(20, 80))
    assert snapshot["parts"][-1]["gate"] == {"command": "PASS", "taken": True, "outcome": "PASSED"}
    assert snapshot["status"]["latency_p50_ms"] == 5.5
    assert snapshot["parts"][0]["views"][0]["frame_width_px"] == 16


def test_snapshot_has_older_parts_that_did_not_pass(feed: LiveFeed) -> None:
    feed._take(News([verdict(0, Judgement.REJECT), *(verdict(number) for number in range(1, 100))]))
    [(_, _, snapshot)] = parsed(feed.join(None)[1])
    assert [part["sequence"] for part in snapshot["parts"]] == [0, *range(40, 100)]


def test_browser_that_comes_back_gets_what_it_missed_and_nothing_else(feed: LiveFeed) -> None:
    feed._take(News([verdict(1), verdict(2)]))
    [(_, last, _)] = parsed(feed.join(None)[1])
    feed._take(News([verdict(3)], [gate_report(1)]))
    events = parsed(feed.join(last)[1])
    assert [kind for kind, _, _ in events] == ["status", "part", "part"]
    assert [part["sequence"] for _, _, part in events[1:]] == [1, 3]
    assert events[1][2]["gate"]["outcome"] == "PASSED"


def test_status_says_how_far_the_database_is_behind(feed: LiveFeed) -> None:
    assert (feed.status().backlog_bytes, feed.status().backlog_s) == (0, 0)
    counters = {"journal_backlog_bytes": 1_200_000_000, "journal_backlog_s": 2100}
    feed._health = {"storage": Health(service="storage", state="DEGRADED", pid=1, time_ns=0, counters=counters)}
    assert (feed.status().backlog_bytes, feed.status().backlog_s) == (1_200_000_000, 2100)


@pytest.mark.parametrize("count", ["many", "", "-1", "\u0661", "9" * 5])
def test_counter_that_is_no_number_is_no_crash(feed: LiveFeed, count: str) -> None:
    feed._tally = {"PASS": count}
    assert feed.status().verdicts[Judgement.PASS] in {0, 1, 99999}


@pytest.mark.parametrize("last", ["other-5", "nonsense", "", "-", "0-0", "\u0661-\u0661"])
def test_unknown_last_event_means_a_snapshot(feed: LiveFeed, last: str) -> None:
    feed._take(News([verdict(1)]))
    assert parsed(feed.join(last)[1])[0][0] == "snapshot"


def test_part_is_told_once_and_pictures_and_gate_are_changes(feed: LiveFeed) -> None:
    async def follow() -> list[tuple[str, str | None, Any]]:
        browser, _ = feed.join(None)
        feed._take(News([verdict(1), verdict(1)], [gate_report(1), gate_report(1), gate_report(7)]))
        feed._change(PartChange(part_id="st-r1-00000001", pictures={"top": "live"}))
        return parsed(await browser.next())

    events = asyncio.run(follow())
    assert [kind for kind, _, _ in events] == ["part", "change", "change"]
    assert events[1][2] == {"part_id": "st-r1-00000001", "gate": events[1][2]["gate"]}
    assert events[2][2]["pictures"] == {"top": "live"}


def test_slow_browser_is_dropped_and_counted_and_others_go_on(feed: LiveFeed, counters: Counter[str]) -> None:
    async def follow() -> None:
        slow, _ = feed.join(None)
        quick, _ = feed.join(None)
        for number in range(1000):
            feed._take(News([verdict(number)]))
            assert await quick.next()
        assert feed.browsers == 1
        assert counters["browser_too_slow"] == 1
        assert await slow.next() == b""

    asyncio.run(follow())


def test_memory_is_bounded(feed: LiveFeed) -> None:
    feed._take(News([verdict(number) for number in range(3000)], [gate_report(0)]))
    assert len(feed._parts) == len(feed._numbers) == 500


def test_browsers_leave_when_the_console_closes(feed: LiveFeed) -> None:
    async def follow() -> None:
        browser, _ = feed.join(None)
        feed.close()
        assert await browser.next() == b""
        late, _ = feed.join(None)
        assert await late.next() == b""

    asyncio.run(follow())
