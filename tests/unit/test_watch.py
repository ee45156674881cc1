"""The watch: what becomes an event, that nothing storms, and what outlives a killed storage."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from config import events
from config.messages import Event, Health, as_json, from_json
from storage.watch import Memory, Watch

S = 1_000_000_000


class Times:
    """A watch, and the time that passes for it."""

    def __init__(self, memory: Memory | None = None, run: str = "r1") -> None:
        self.counters: Counter[str] = Counter()
        self.now_ns = 100 * S
        self.watch = Watch("st", run, memory, self.counters, self.now_ns)

    def hear(
        self, service: str, state: Literal["READY", "DEGRADED", "STARTING"] = "READY", detail: str = "", pid: int = 1
    ) -> None:
        health = Health(service=service, state=state, detail=detail, pid=pid, time_ns=0, counters={})
        self.watch.take(health, self.now_ns)

    def wait(self, seconds: float, *talking: str) -> None:
        for _ in range(round(seconds * 2)):
            self.now_ns += S // 2
            for service in talking:
                self.hear(service)
            self.watch.tick(self.now_ns)

    def news(self) -> list[tuple[str, str, str]]:
        return [(event.service, event.name, event.state) for event in self.watch.news()]


def test_first_word_other_pid_and_silence_are_told_once() -> None:
    times = Times()
    times.hear("camera-top")
    times.hear("camera-top")
    assert times.news() == [("camera-top", "started", "HAPPENED")]
    times.hear("camera-top", pid=2)
    assert times.news() == [("camera-top", "restarted", "HAPPENED")]
    times.wait(3)
    assert times.news() == []
    times.wait(10)
    [silent] = times.watch.news()
    assert (silent.name, silent.state, silent.severity, silent.station) == ("silent", "BEGAN", "ALARM", "st")
    assert times.watch.on == (silent,)
    times.hear("camera-top", pid=2)
    [end] = times.watch.news()
    assert (end.name, end.state) == ("silent", "ENDED")
    assert end.event_id == events.end_of(silent.event_id)
    assert times.watch.on == ()


def test_degraded_is_told_with_its_words_and_counts_in_them_are_no_news() -> None:
    times = Times()
    times.hear("decision")
    times.hear("decision", "DEGRADED", "PLC away for 1 s")
    assert [event.detail for event in times.watch.news()][1:] == ["PLC away for 1 s"]
    times.hear("decision", "DEGRADED", "PLC away for 2 s")
    assert times.news() == []
    times.hear("decision", "DEGRADED", "outbox full")
    assert times.news() == [("decision", "degraded", "ENDED"), ("decision", "degraded", "BEGAN")]
    times.hear("decision", "STARTING")
    assert times.news() == []
    times.hear("decision")
    assert times.news() == [("decision", "degraded", "ENDED")]


def test_storage_says_its_conditions_itself() -> None:
    times = Times()
    times.hear("storage", "DEGRADED", "PostgreSQL: away")
    times.watch.say("not_written", "WARNING", "PostgreSQL: away", times.now_ns)
    assert times.news() == [("storage", "started", "HAPPENED"), ("storage", "not_written", "BEGAN")]
    times.watch.say("not_written", "WARNING", None, times.now_ns)
    assert times.news() == [("storage", "not_written", "ENDED")]


def test_nobody_was_silent_while_storage_itself_did_not_run() -> None:
    times = Times()
    times.hear("camera-top")
    times.news()
    times.now_ns += 60 * S
    times.watch.tick(times.now_ns)
    times.wait(2.5)
    assert times.news() == []
    times.wait(1)
    assert times.news() == [("camera-top", "silent", "BEGAN")]


def test_flapping_is_limited_counted_and_told_at_last_as_it_is() -> None:
    times = Times()
    times.hear("decision")
    times.news()
    told: list[Event] = []
    for _ in range(600):  # ten minutes
        times.now_ns += S // 2
        times.hear("decision", "DEGRADED", "PLC away")
        times.now_ns += S // 2
        times.hear("decision")
        times.watch.tick(times.now_ns)
        told += times.watch.news()
    assert 0 < len(told) <= 12 * 11
    assert times.counters["events_held_back"] > 1000
    times.hear("decision", "DEGRADED", "PLC away")
    times.wait(61)
    told += [event for event in times.watch.news() if event.name == "degraded"]
    assert told[-1].state == "BEGAN"
    assert "held back" in told[-1].detail
    assert [event.name for event in times.watch.on if event.name == "degraded"] == ["degraded"]
    assert_alternate(told)


def test_crash_loop_is_limited() -> None:
    times = Times()
    for pid in range(1000):
        times.hear("worker-0", pid=pid + 1)
    assert len(times.watch.news()) == 7  # started, and six times restarted
    assert times.counters["events_held_back"] == 993


def test_services_are_bounded() -> None:
    times = Times()
    for number in range(1000):
        times.hear(f"made-up-{number}")
    assert len(times.watch.news()) == 256
    assert times.counters["services_not_watched"] == 744


def test_killed_storage_goes_on_where_it_was() -> None:
    before = Times()
    before.hear("camera-top")
    before.hear("decision", "DEGRADED", "PLC away")
    before.watch.say("redis_down", "WARNING", "Redis: away", before.now_ns)
    before.wait(4, "storage")
    began = {event.name: event.event_id for event in before.watch.news() if event.state == "BEGAN"}
    after = Times(from_json(Memory, as_json(before.watch.memory)))
    after.hear("camera-top")
    after.hear("decision")
    after.watch.say("redis_down", "WARNING", None, after.now_ns)
    ended = {event.name: event.event_id for event in after.watch.news()}
    assert {name: events.end_of(event_id) for name, event_id in began.items()} == ended
    assert after.watch.on == ()


def test_process_that_ended_while_storage_was_away_is_missed() -> None:
    before = Times()
    before.hear("camera-top")
    after = Times(before.watch.memory)
    after.wait(4)
    assert after.news() == [("camera-top", "silent", "BEGAN")]


def test_end_is_remembered_until_it_is_journalled() -> None:
    times = Times()
    times.watch.say("redis_down", "WARNING", "away", times.now_ns)
    times.watch.say("redis_down", "WARNING", None, times.now_ns)
    _, end = times.watch.news()
    again = Times(times.watch.memory)
    again.watch.say("redis_down", "WARNING", None, again.now_ns)
    assert [event.event_id for event in again.watch.news()] == [end.event_id]  # the same record, stored once
    times.watch.journalled([end])
    assert times.watch.memory.on == ()


def test_what_was_on_ends_with_its_run() -> None:
    times = Times()
    times.hear("camera-top")
    times.wait(4)
    times.news()
    after = Times(times.watch.memory, run="r2")
    assert after.news() == [("camera-top", "silent", "ENDED")]
    after.hear("camera-top")
    assert after.news() == [("camera-top", "started", "HAPPENED")]


def test_conditions_of_others_end_with_their_process() -> None:
    times = Times()
    times.hear("decision")
    times.news()
    reject_rate = events.began("st", "decision", "reject_rate", "ALARM", "12 of 100")
    times.watch.saw(reject_rate)
    assert times.watch.on == (reject_rate,)
    times.watch.saw(events.ended(reject_rate))
    assert times.watch.on == ()
    times.watch.saw(reject_rate)
    times.hear("decision", pid=2)
    assert times.news() == [("decision", "restarted", "HAPPENED"), ("decision", "reject_rate", "ENDED")]


_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "storage"]), st.sampled_from(["READY", "DEGRADED", "wait"]), st.integers(1, 3)
    ),
    max_size=60,
)


@given(_ACTS)
def test_begins_and_ends_alternate_and_what_is_on_is_what_began_last(acts: list[tuple[str, str, int]]) -> None:
    times = Times()
    told: list[Event] = []
    for service, act, number in acts:
        if act == "wait":
            times.wait(number * 2)
        else:
            times.hear(service, act, f"words {'abc'[number - 1]}", pid=number)  # type: ignore[arg-type]  # one of the states
        told += times.watch.news()
    assert_alternate(told)
    ended = {event.event_id for event in told if event.state == "ENDED"}
    on = {event for event in told if event.state == "BEGAN" and events.end_of(event.event_id) not in ended}
    assert set(times.watch.on) == on


def assert_alternate(told: list[Event]) -> None:
    conditions = [event for event in told if event.state != "HAPPENED"]
    for key in {(event.service, event.name) for event in conditions}:
        of_key = [event for event in conditions if (event.service, event.name) == key]
        assert [event.state for event in of_key] == (["BEGAN", "ENDED"] * len(of_key))[: len(of_key)]
        for begin, end in zip(of_key[::2], of_key[1::2], strict=False):
            assert end.event_id == events.end_of(begin.event_id)
    assert len({event.event_id for event in told}) == len(told)
