"""Events: from processes' health and from couriers, through the journal, to PostgreSQL, Redis and the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import Servers
from msgspec.structs import replace
from storage_process import Sender, Storage, storage, store, until, verdict

from config import bus, events
from config.errors import EXIT_USAGE, InputError, StoreError
from config.messages import Event, Health, State
from deploy.cli import main
from storage import audit
from storage.alarms import Alarms
from storage.events import EventFilter, EventService
from storage.query.service import QueryService


class Process:
    """A process of the station, as far as storage hears of it."""

    def __init__(self, station: Storage, sender: Sender, service: str) -> None:
        self._socket = sender.bus.connect(zmq.PUSH, station.home.endpoint("health"))
        self._service = service

    def say(self, state: State = "READY", detail: str = "", pid: int = 7) -> None:
        health = Health(service=self._service, state=state, detail=detail, pid=pid, time_ns=0, counters={})
        bus.send(self._socket, health)


def test_events_of_processes_reach_database_and_redis_and_outlive_storage(servers: Servers) -> None:
    with storage(servers) as station:
        asked = EventService(station.database)
        station.start()
        sender = station.sender()
        camera, worker = Process(station, sender, "camera-top"), Process(station, sender, "worker-0")

        def told() -> list[tuple[str, str, str]]:
            found = asked.events(EventFilter(), limit=500).events
            return sorted((line.service, line.name, line.state) for line in found if line.name != "silent")

        expected = [("camera-top", "started", "HAPPENED"), ("storage", "started", "HAPPENED")]
        camera.say()
        until(lambda: told() == expected, station.said)
        camera.say("DEGRADED", "lens dirty")
        until(lambda: "camera-top:degraded" in station.live.alarms(), station.said)
        until(lambda: "lens dirty" in [line.detail for line in asked.alarms()], station.said)
        worker.say()
        until(lambda: ("worker-0", "started", "HAPPENED") in told(), station.said)
        station.kill()
        station.start()
        worker.say(pid=8)
        camera.say()  # well again
        expected += [
            ("camera-top", "degraded", "BEGAN"),
            ("camera-top", "degraded", "ENDED"),
            ("worker-0", "restarted", "HAPPENED"),
            ("worker-0", "started", "HAPPENED"),
            ("storage", "restarted", "HAPPENED"),
        ]
        until(lambda: told() == sorted(expected), lambda: f"{told()}\n{station.said()}")
        until(lambda: "camera-top:degraded" not in station.live.alarms())
        until(lambda: {"camera-top", "worker-0"} == {line.service for line in asked.alarms()}, station.said)
        assert {line.name for line in asked.alarms()} == {"silent"}
        until(lambda: set(station.live.alarms()) == {"camera-top:silent", "worker-0:silent"})
        shown = {event.event_id for event in station.live.events()}
        until(lambda: shown == {line.event_id for line in asked.events(EventFilter(), limit=500).events}, station.said)
        asked.close()


def test_an_alarm_is_acknowledged_once_and_the_audit_trail_says_by_whom(servers: Servers, tmp_path: Path) -> None:
    url = servers.database()
    began = events.began("st", "decision", "plc_down", "ALARM", "refused")
    ended = events.ended(began)
    store(url, (began, []), (ended, []))
    alarms = Alarms(url, tmp_path)
    made = alarms.acknowledge(began.event_id, "mina", "the cable")
    assert (made.person, made.comment) == ("mina", "the cable")
    assert alarms.of([began.event_id, "another"]) == {began.event_id: made}
    for event_id, comment, said in (
        (began.event_id, "", "acknowledged already"),
        (ended.event_id, "", "no such alarm"),  # what is over needs nobody
        ("nothing", "", "no such alarm"),
        (began.event_id, "two\nlines", "comment"),
    ):
        with pytest.raises(InputError, match=said):
            alarms.acknowledge(event_id, "ann", comment)
    alarms.close()
    query = QueryService(url)
    with query.connected() as connection:
        (entry,) = audit.newest(connection, 10)
    query.close()
    assert (entry.who, entry.action, entry.subject) == ("mina", "alarm.acknowledged", began.event_id)
    assert json.loads(entry.after or "") == {"service": "decision", "name": "plc_down", "comment": "the cable"}
    servers.drop(url)


def test_storage_tells_of_its_own_and_takes_what_others_tell(servers: Servers) -> None:
    with storage(servers) as station:
        asked = EventService(station.database)
        station.start()
        sender = station.sender()
        begin = events.began("st", "decision", "reject_rate", "ALARM", "12 of the last 100")
        sender.send(begin, [])
        sender.send(begin, [])
        sender.finish()
        until(lambda: [line.name for line in asked.alarms()] == ["reject_rate"], station.said)
        before = {name: len(_of(asked, name)) for name in ("redis_down", "not_written")}  # a slow start tells of both
        assert all(count % 2 == 0 for count in before.values()), "what is no alarm any more has not ended"

        def since(name: str) -> list[str]:
            told = _of(asked, name)
            return told[: len(told) - before[name]]

        servers.postgres.kill()
        until(lambda: "storage:not_written" in station.live.alarms(), station.said)
        assert "decision:reject_rate" in station.live.alarms()
        servers.valkey.kill()
        until(lambda: station.events("redis_down began") == 1, station.said)
        sender.send(events.ended(begin), [])
        sender.finish()
        servers.ready()
        until(lambda: since("redis_down") == since("not_written") == ["ENDED", "BEGAN"], station.said)
        until(lambda: not asked.alarms() and not station.live.alarms(), station.said)
        asked.close()


def _of(asked: EventService, name: str) -> list[str]:
    try:
        return [line.state for line in asked.events(EventFilter(name=name)).events]
    except StoreError:
        return []


def test_events_wait_for_a_full_journal(servers: Servers) -> None:
    with storage(servers, postgres_up=False, journal_limit_mb=1) as station:
        station.start()
        sender = station.sender()
        camera = Process(station, sender, "camera-top")
        number = 0
        while not station.events("not_journalled began"):
            sender.send(*verdict(number, truth=None, line="x" * 4000))
            sender.take(1)
            number += 1
        camera.say("DEGRADED", "lens dirty")
        servers.postgres.start()
        sender.finish()
        asked = EventService(station.database)
        until(lambda: _of(asked, "not_journalled") == ["ENDED", "BEGAN"], station.said)
        assert _of(asked, "degraded") == ["BEGAN"]
        asked.close()


@pytest.fixture(scope="module")
def filled(running_servers: Servers) -> Iterator[str]:
    running_servers.ready()
    url = running_servers.database()
    store(url, *((made, []) for made in _history()))
    yield url
    running_servers.drop(url)


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _history() -> Iterator[Event]:
    for number in range(30):
        made = events.happened("st", f"worker-{number % 3}", "restarted", "WARNING", f"pid {number}")
        yield replace(made, time_ns=_ns(NOW - timedelta(minutes=number // 2)))
    begin = events.began("st", "camera-top", "silent", "ALARM")
    yield replace(begin, time_ns=_ns(NOW))
    yield replace(events.ended(begin), time_ns=_ns(NOW - timedelta(hours=1)))  # the clock was set back
    yield replace(events.began("st", "storage", "redis_down", "WARNING", "away"), time_ns=_ns(NOW))


def _ns(moment: datetime) -> int:
    return round(moment.timestamp()) * 10**9


def test_list_is_filtered_and_paged_without_gaps(filled: str) -> None:
    asked = EventService(filled)
    everything = asked.events(EventFilter(), limit=500).events
    assert len(everything) == 33
    paged, after = [], None
    while True:
        page = asked.events(EventFilter(), after, limit=7)
        paged += page.events
        after = page.after
        if after is None:
            break
    assert tuple(paged) == everything
    assert [line.time for line in paged] == sorted((line.time for line in paged), reverse=True)
    for chosen, count in (
        (EventFilter(service="worker-1"), 10),
        (EventFilter(severities=frozenset({"ALARM"})), 2),
        (EventFilter(name="redis_down"), 1),
        (EventFilter(since=NOW - timedelta(minutes=2), until=NOW), 4),
        (EventFilter(station="elsewhere"), 0),
    ):
        assert len(asked.events(chosen, limit=500).events) == count, chosen
    assert [line.name for line in asked.alarms()] == ["redis_down"]  # whatever the clock said
    assert asked.alarms("elsewhere") == ()
    asked.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    after=st.none() | st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.hex()),
    limit=st.integers(-5, 700),
    values=st.dictionaries(
        st.sampled_from(["since", "until", "station", "service", "name", "severities", "colour"]),
        st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=8), max_size=3),
    ),
)
def test_nonsense_is_an_input_error(filled: str, after: str | None, limit: int, values: dict[str, object]) -> None:
    asked = EventService(filled)
    try:
        asked.events(EventFilter.parse(values), after, limit)
    except InputError:
        pass
    finally:
        asked.close()


def test_command(filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ANDON_DATABASE_URL", filled)
    assert main(["events", "--limit", "2", "--severity", "warning", "--service", "worker-1"]) == 0
    said = capsys.readouterr().out
    assert said.count("restarted") == 2
    after = said.rsplit(" ", 1)[1].strip()
    assert main(["events", "--limit", "500", "--service", "worker-1", "--after", after, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["events"]) == 8
    assert main(["events", "--on"]) == 0
    assert "redis_down" in capsys.readouterr().out
    assert main(["events", "--since", "2026-11-22T11:58:00+00:00", "--until", "2026-11-22T12:00:00Z", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["events"]) == 4
    for wrong in (["--since", "yesterday"], ["--severity", "loud"], ["--on", "--name", "silent"], ["--after", "x"]):
        assert main(["events", *wrong]) == EXIT_USAGE
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["events", "--since", "1s", "--name", "nothing"]) == 0
    assert capsys.readouterr().out == "none\n"


def test_ids_are_their_own_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    made = [events.began("st", "storage", "x", "INFO") for _ in range(100)]
    ids = {event.event_id for event in made} | {events.ended(event).event_id for event in made}
    assert len(ids) == 200
