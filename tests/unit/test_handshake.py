from __future__ import annotations

from dataclasses import fields
from dataclasses import replace as with_changes
from pathlib import Path

import pytest

from config.errors import StoreError
from config.messages import GateCommand, Judgement, as_json
from decision.gate import PlcInputs, PlcSignals
from decision.handshake import QUEUE, Handshake, Memory, Triggered
from decision.ledger import PAGE_BYTES, Ledger
from decision.registers import ErrorCode, Result

JOB = 7


def inputs(number: int = 0, *names: str, job: int = JOB) -> PlcInputs:
    signals = PlcSignals(**dict.fromkeys(("trigger_enable", *names), True))
    return PlcInputs(run=1, heartbeat=0, requested_job=job, outcome_count=0, part_number=number, signals=signals)


def result(number: int, command: GateCommand = GateCommand.PASS) -> Result:
    return Result(number - 1, command, Judgement.PASS if command is GateCommand.PASS else Judgement.REJECT)


class Station:
    """A station that can judge, and what it shows."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.handshake = Handshake(memory or Memory())

    def look(self, number: int = 0, *names: str, able: bool = True, job: int = JOB) -> Triggered | None:
        return self.handshake.look(inputs(number, *names, job=job), able=able, job=JOB, now_ns=5)

    def on(self) -> set[str]:
        signals = self.handshake.signals(able=True)
        return {field.name for field in fields(signals) if getattr(signals, field.name)}

    def error(self) -> tuple[ErrorCode, int]:
        return self.handshake.memory.error_code, self.handshake.memory.error_part

    def take(self, number: int) -> None:
        self.look(number - 1)
        assert self.look(number, "trigger") is not None
        self.look(number)
        self.handshake.exposed(number - 1)


@pytest.fixture
def station() -> Station:
    return Station()


def test_one_part_from_trigger_to_acknowledged_result(station: Station) -> None:
    assert station.on() == set()
    assert station.look(12) is None
    assert station.on() == {"ready"}
    assert station.look(12, "trigger") == Triggered(sequence=11, job=JOB, trigger_ns=5)
    assert station.on() == {"ack", "busy"}
    assert station.handshake.memory.acked_part == 12
    assert station.look(12, "trigger") is None
    station.look(12)
    assert station.on() == {"busy"}
    station.handshake.exposed(11)
    assert station.on() == {"busy", "exposure_complete", "ready"}
    station.handshake.judged(result(12))
    assert station.on() == {"ready", "exposure_complete", "inspection_completed", "results_valid"}
    assert station.handshake.result == result(12)
    station.look(12, "results_ack")
    assert station.on() == {"ready", "exposure_complete", "inspection_completed"}
    assert station.handshake.result is None
    station.take(13)
    station.handshake.judged(result(13))
    assert "inspection_completed" not in station.on()


def test_the_next_result_stands_when_the_last_one_s_acknowledgement_has_fallen(station: Station) -> None:
    for number in (1, 2, 3):
        station.take(number)
    for number in (2, 3, 1):
        station.handshake.judged(result(number))
    seen = []
    while station.handshake.result is not None:
        seen.append(station.handshake.result.sequence + 1)
        station.look(3, "results_ack")
        assert station.handshake.result is None
        station.look(3, "results_ack")
        assert station.handshake.result is None
        station.look(3)
    assert seen == [2, 3, 1]


@pytest.mark.parametrize("why", ["unable", "disabled", "job", "exposing", "unseen", "full", "used", "zero"])
def test_a_trigger_that_is_not_taken_is_an_overrun_with_its_reason(station: Station, why: str) -> None:
    number, code, able, job = 5, ErrorCode.NOT_READY, True, JOB
    station.look(4)
    match why:
        case "unable":
            able = False
        case "disabled":
            station.handshake.look(with_changes(inputs(4), signals=PlcSignals()), able=True, job=JOB, now_ns=0)
        case "job":
            job = JOB + 1
        case "exposing":
            station.look(4, "trigger")
            station.look(4)
        case "unseen":
            station.handshake.connected()
        case "full":
            for taken in range(1, QUEUE + 1):
                station.take(taken)
            number, code = QUEUE + 1, ErrorCode.RESULTS_FULL
        case "used":
            station.take(7)
            code = ErrorCode.PART_NUMBER
        case "zero":
            number, code = 0, ErrorCode.PART_NUMBER
    before = station.handshake.memory.open
    assert station.look(number, "trigger", able=able, job=job) is None
    assert station.handshake.memory.open == before
    assert {"overrun", "error"} <= station.on()
    assert station.on().isdisjoint({"ack", "ready"})
    assert station.error() == (code, number)
    assert station.look(number, "trigger") is None, (
        "what was refused is not taken later, when its picture were another's"
    )
    station.look(number, "error_reset")
    assert station.on().isdisjoint({"overrun", "error"})
    assert station.error() == (ErrorCode.NONE, 0)


def test_a_part_that_was_refused_may_be_triggered_again(station: Station) -> None:
    station.look(5)
    station.look(5, "trigger", able=False)
    station.look(5)
    assert station.look(5, "trigger") is not None
    assert station.on() >= {"ack", "overrun"}


def test_a_part_that_was_refused_is_not_a_lost_one(station: Station) -> None:
    station.take(4)
    station.look(5, "trigger", able=False)
    station.take(6)
    assert station.error() == (ErrorCode.NOT_READY, 5)


def test_a_reset_that_nobody_saw_rise_resets_nothing(station: Station) -> None:
    station.look(5)
    station.look(5, "trigger", able=False)
    again = Station(station.handshake.memory)
    again.look(5, "error_reset")
    again.look(5)
    assert {"error", "overrun"} <= again.on(), "the PLC sees it again, and resets it then"
    again.look(5, "error_reset")
    again.look(5)
    assert again.on().isdisjoint({"error", "overrun"})


def test_a_number_left_out_is_a_lost_trigger_and_the_part_that_came_is_taken(station: Station) -> None:
    station.take(40)
    assert station.error() == (ErrorCode.NONE, 0), "a run begins with any number"
    station.take(41)
    assert station.error() == (ErrorCode.NONE, 0)
    station.take(44)
    assert station.error() == (ErrorCode.TRIGGER_LOST, 42)
    assert "overrun" in station.on()
    assert [part.sequence + 1 for part in station.handshake.memory.open] == [40, 41, 44]


def test_a_number_that_is_no_count_is_refused_and_does_not_end_the_run(station: Station) -> None:
    station.look()
    station.look(0xFFFF_FFFF, "trigger")
    assert station.error() == (ErrorCode.PART_NUMBER, 0xFFFF_FFFF)
    station.take(12)
    station.look(13 << 16 | 12, "trigger")  # half of another value
    station.look(12)
    station.look(0xFFFF_FFFF, "trigger")
    assert station.error() == (ErrorCode.PART_NUMBER, 0xFFFF_FFFF)
    station.look(12)
    last = station.handshake.memory.acked_part
    station.handshake.exposed(last - 1)
    station.take(last + 1)


def test_another_number_under_a_trigger_that_never_fell_is_refused(station: Station) -> None:
    station.look(5)
    station.look(5, "trigger")
    assert station.look(6, "trigger") is None
    assert "ack" not in station.on(), "the acknowledgement was for part 5"
    assert station.error() == (ErrorCode.NOT_READY, 6)


def test_a_restarted_station_goes_on_in_the_middle_of_a_trigger(station: Station) -> None:
    station.look(5)
    station.look(5, "trigger")
    again = Station(station.handshake.memory)
    assert again.look(5, "trigger") is None
    assert again.on() == {"ack", "busy"}
    again.look(5)
    assert "ready" not in again.on(), "nobody knows whether the cameras have part 5"
    again.handshake.judged(result(5, GateCommand.REJECT))
    again.look(5)
    assert again.on() >= {"ready", "results_valid", "inspection_completed"}


def test_a_job_that_is_not_known_is_an_error_of_no_part(station: Station) -> None:
    station.look(able=False)
    station.handshake.job_refused()
    assert station.error() == (ErrorCode.UNKNOWN_JOB, 0)
    assert station.on() == {"error"}


def test_an_overrun_stays_while_its_trigger_is_high(station: Station) -> None:
    station.look(5)
    station.look(5, "trigger", able=False)
    station.look(5, "trigger", "error_reset")
    station.look(5, "trigger")
    assert "overrun" in station.on(), "a trigger that fell and rose unseen would wait for ever"
    assert station.error() == (ErrorCode.NOT_READY, 5)


def test_an_error_that_comes_while_another_is_being_reset_shows_afterwards(station: Station) -> None:
    station.look(5)
    station.look(5, "trigger", able=False)
    station.look(5)
    station.look(5, "error_reset")
    station.look(6, "error_reset", "trigger", able=False)
    assert station.on().isdisjoint({"error", "overrun"}), "else the PLC would never see the first one end"
    station.look(6, "error_reset")
    station.look(6)
    assert {"error", "overrun"} <= station.on()
    assert station.error() == (ErrorCode.NOT_READY, 6)


def test_what_a_full_handshake_knows_fits_one_page_and_comes_back(tmp_path: Path) -> None:
    sequence = 2**32 - 2
    part = Triggered(sequence=sequence, job=65535, trigger_ns=2**62)
    waiting = Result(sequence, GateCommand.REJECT, Judgement.REVIEW)
    memory = Memory(
        acked_part=2**32 - 1,
        open=(part,) * QUEUE,
        standing=True,
        toggle=True,
        overrun=True,
        error_code=ErrorCode.UNKNOWN_JOB,
        error_part=2**32 - 1,
    )
    for full in (memory, with_results(memory, waiting)):
        assert len(as_json(full)) + 8 <= PAGE_BYTES
        ledger = Ledger(tmp_path, "run")
        ledger.write(Memory())
        ledger.write(full)
        ledger.close()
        again = Ledger(tmp_path, "run")
        assert again.read() == full
        again.close()


def with_results(memory: Memory, waiting: Result) -> Memory:
    return Memory(acked_part=memory.acked_part, results=(waiting,) * QUEUE, standing=True)


def test_another_run_knows_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "one")
    assert ledger.read() == Memory()
    ledger.write(Memory(acked_part=3))
    ledger.close()
    other = Ledger(tmp_path, "two")
    assert other.read() == Memory()
    other.close()
    assert [file.name for file in tmp_path.iterdir()] == ["handshake.two"]


@pytest.mark.parametrize("damage", [b"\x00" * 8 + b"{}", b"\xff", b"\x01\x02\x03\x04\xff\xff\xff\xff"])
def test_a_damaged_ledger_is_an_empty_one(tmp_path: Path, damage: bytes) -> None:
    ledger = Ledger(tmp_path, "run")
    ledger.write(Memory(acked_part=3))
    with (tmp_path / "handshake.run").open("r+b") as file:
        file.write(damage)
    assert ledger.read() == Memory()
    ledger.close()


def test_a_folder_without_room_is_told_before_the_run_begins_and_never_amid_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "r1")
    assert (tmp_path / "handshake.r1").stat().st_blocks * 512 >= PAGE_BYTES
    assert ledger.read() == Memory()
    ledger.close()
    with pytest.raises(StoreError, match="handshake"):
        Ledger(tmp_path / "none", "r1")
