"""The storage process, really run: what comes in is on disk, stored and shown, or it is said that it is not."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from live_servers import Servers
from storage_process import JPEG, MS, RUN, storage, until, verdict

from config.errors import EXIT_CONFIGURATION, EXIT_FAILURE
from config.messages import Evidence, GateOutcome, GateReport, Judgement
from storage.migrate import migrate
from storage.query.filters import Filter


def test_records_reach_disk_database_and_live_picture(servers: Servers) -> None:
    with storage(servers) as station:
        station.start()
        peer = station.sender()
        judgements = [Judgement.REJECT if number % 5 == 0 else Judgement.PASS for number in range(100)]
        for number, judgement in enumerate(judgements):
            message, payload = verdict(number, judgement)
            peer.send(message, payload)
            seen = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
            outcome = GateOutcome.PASSED if judgement is Judgement.PASS else GateOutcome.EJECTED
            report = GateReport(
                part_id=message.part_id,
                trigger_time_ns=message.trigger_time_ns,
                command=message.gate,
                written_ns=message.trigger_ns + 12 * MS,
                outcome=outcome,
                reported_ns=message.trigger_ns + 900 * MS,
            )
            peer.send(report, [])
            if judgement is Judgement.REJECT:
                crop = {**seen, "width_px": 16, "height_px": 16}
                peer.send(Evidence(**crop, purpose="crop", region=0), [JPEG])
                peer.send(Evidence(**crop, purpose="image", region=None), [JPEG])
            peer.send(
                Evidence(**seen, purpose="live", region=None, width_px=1, height_px=1),
                [JPEG],
            )
            peer.take(0)
        peer.finish()
        until(lambda: station.stored("image") == 40 and station.stored("gate_report") == 100, station.said)

        summary = station.query.summary(RUN)
        assert summary.recorded == 100
        assert summary.doubled == 0
        assert summary.verdicts == {Judgement.PASS: 80, Judgement.REJECT: 20, Judgement.REVIEW: 0, Judgement.FAULT: 0}
        assert (summary.truth.good, summary.truth.false_reject, summary.truth.escape) == (100, 20, 0)
        assert (summary.gate_commands, summary.gate_confirmed) == (100, 100)
        assert summary.trigger_to_verdict.max_ms == pytest.approx(10)
        assert summary.trigger_to_gate.p50_ms == pytest.approx(12)

        rejected = station.query.parts(Filter(verdicts=frozenset({Judgement.REJECT})), limit=20)
        assert [part.sequence for part in rejected.parts] == list(range(95, -1, -5))
        part = station.query.part(rejected.parts[0].part_id)
        assert part is not None
        assert part.gate_outcome is GateOutcome.EJECTED
        assert [(image.purpose, image.region) for image in part.images] == [("crop", 0), ("image", None)]
        assert part.details[0].regions[0].area_px == 11
        assert part.details[0].anomaly_map is not None
        assert part.details[0].anomaly_map.shape == (8, 8)
        assert float(part.details[0].anomaly_map[0, 0]) == 95
        assert station.query.image(part.part_id, "top", "crop", 0) == JPEG
        assert station.query.image(part.part_id, "top", "image") == JPEG

        until(lambda: station.live.counters().get("EJECTED") == 20, station.said)
        assert station.live.counters()["PASS"] == 80
        assert [part.sequence for part in station.live.parts(3)] == [99, 98, 97]
        assert station.live.gates(1)[0].part_id == f"st-{RUN}-00000099"
        assert station.live.image(f"st-{RUN}-00000007", "top", "live") == JPEG
        assert station.stored("image") == 40  # live pictures are not kept
        until(station.health)
        health = station.health()
        assert health is not None
        assert health.state == "READY"
        assert station.stop() < 1.2


def test_storage_journals_without_postgres_and_drains_when_it_comes(servers: Servers) -> None:
    with storage(servers, postgres_up=False) as station:
        station.start()
        sender = station.sender()
        for number in range(300):
            sender.send(*verdict(number))
        sender.finish(5)
        until(lambda: station.health() is not None and station.health().counters["journal_backlog_bytes"] > 0)
        health = station.health()
        assert health is not None
        assert health.state == "DEGRADED"
        assert "PostgreSQL" in health.detail
        assert station.events("not_written began") == 1
        assert station.stop() < 1.2

        station.start()
        servers.postgres.start()
        until(lambda: station.stored() == 300, station.said)
        assert station.events("not_written ended") == 1
        until(lambda: station.health() is not None and station.health().state == "READY")


def test_database_without_schema_is_waited_for(servers: Servers) -> None:
    with storage(servers, migrated=False) as station:
        station.start()
        sender = station.sender()
        sender.send(*verdict(1))
        sender.finish()
        until(station.health)
        assert "revision none" in station.health().detail  # type: ignore[union-attr]  # until() has seen it
        migrate(station.database)
        until(lambda: station.stored() == 1, station.said)


def test_torn_tail_is_cut_off_and_nothing_else(servers: Servers) -> None:
    with storage(servers, postgres_up=False) as station:
        station.start()
        sender = station.sender()
        for number in range(50):
            sender.send(*verdict(number))
        sender.finish()
        station.kill()
        segment = max(station.home.journal.glob("*.segment"))
        whole = segment.read_bytes()
        segment.write_bytes(whole + whole[:700])
        station.start()
        assert segment.read_bytes() == whole
        assert station.events("torn tail of the journal cut off") == 1
        servers.postgres.start()
        until(lambda: station.stored() == 50, station.said)


def test_full_journal_acknowledges_nothing_and_recovers(servers: Servers) -> None:
    with storage(servers, postgres_up=False, journal_limit_mb=1) as station:
        station.start()
        sender = station.sender()
        for number in range(200):  # 2 MB
            sender.send(*_crop(number))
        until(lambda: station.events("not_journalled began") == 1, lambda: sender.take(10) or station.said())
        for _ in range(30):
            sender.take(20)
        assert 80 < len(sender.courier) < 120
        assert station.events("not_journalled began") == 1
        assert sum(file.stat().st_size for file in station.home.journal.rglob("*")) < 1.1e6
        until(lambda: station.health() is not None and "not journalled" in station.health().detail)

        servers.postgres.start()
        sender.finish()
        until(lambda: station.stored("image") == 200, station.said)
        until(lambda: station.events("not_journalled ended") == 1, station.said)


def test_pictures_give_way_to_verdicts_where_the_station_wants_it_so(servers: Servers) -> None:
    with storage(servers, postgres_up=False, journal_limit_mb=1, journal_bound="shed") as station:
        station.start()
        sender = station.sender()
        for number in range(120):  # 1.2 MB of pictures
            sender.send(*_crop(number))
            sender.send(*verdict(number))
            sender.take(1)
        sender.finish()
        assert station.events("pictures_shed began") == 1
        until(lambda: station.health() is not None and "pictures are not kept" in station.health().detail)

        servers.postgres.start()
        until(lambda: station.stored() == 120, station.said)
        until(lambda: station.events("pictures_shed ended") == 1, station.said)
        health = station.health()
        assert health is not None
        assert station.stored("image") + health.counters["pictures_shed"] == 120
        assert 50 < station.stored("image") < 100


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk is mounted")
def test_full_disk_acknowledges_nothing_and_recovers(servers: Servers) -> None:
    with storage(servers) as station:
        journal = station.home.journal
        if subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", journal], check=False).returncode:
            pytest.skip("no disk can be mounted here")
        try:
            (journal / "ballast").write_bytes(bytes(800_000))
            station.start()
            sender = station.sender()
            for number in range(60):  # 600 kB
                sender.send(*_crop(number))
            until(lambda: station.events("not_journalled began") == 1, lambda: sender.take(10) or station.said())
            assert len(sender.courier) > 20
            (journal / "ballast").unlink()
            sender.finish()
            until(lambda: station.stored("image") == 60, station.said)
            station.stop()
        finally:
            station.kill()
            subprocess.run(["/bin/umount", journal], check=True)


def test_disk_that_refuses_a_write_acknowledges_nothing_and_recovers(servers: Servers) -> None:
    with storage(servers) as station:
        station.start()
        assert station.process is not None
        resource.prlimit(station.process.pid, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        sender = station.sender()
        for number in range(20):  # 200 kB
            sender.send(*_crop(number))
            sender.take(1)
        until(lambda: station.events("not_journalled began") == 1, lambda: sender.take(10) or station.said())
        assert len(sender.courier) > 10
        assert "File too large" in station.said()
        resource.prlimit(station.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sender.finish()
        until(lambda: station.stored("image") == 20, station.said)


def test_refused_records_are_kept_aside_and_block_nobody(servers: Servers) -> None:
    with storage(servers) as station:
        station.start()
        sender = station.sender()
        poison = {20: {"product": "nul \x00"}, 21: {"station": "elsewhere"}, 57: {"recipe": "nul \x00"}}
        for number in range(100):
            sender.send(*verdict(number, **poison.get(number, {})))
        sender.finish()
        until(lambda: station.stored() == 97, station.said)
        until(lambda: station.health() is not None and station.health().counters["journal_backlog_bytes"] == 0)
        refused = sorted((station.home.journal / "refused").glob("*.json"))
        reasons = [json.loads(file.read_text()) for file in refused]
        assert [reason["kind"] for reason in reasons] == ["verdict/1"] * 3
        assert "0x00" in reasons[0]["reason"]
        assert len(list((station.home.journal / "refused").glob("*.record"))) == 3
        assert station.health().counters["refused_records"] == 3  # type: ignore[union-attr]  # until() has seen it


def test_hanging_postgres_holds_up_neither_acknowledgement_nor_exit(servers: Servers) -> None:
    with storage(servers) as station:
        station.start()
        sender = station.sender()
        sender.send(*verdict(0))
        sender.finish()
        assert servers.postgres.process is not None
        postgres = servers.postgres.process.pid
        backends = Path(f"/proc/{postgres}/task/{postgres}/children").read_text().split()
        family = [postgres, *map(int, backends)]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(1, 50):
                sender.send(*verdict(number))
                sender.finish(2)
            assert station.stop() < 1.2
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)
        station.start()
        until(lambda: station.stored() == 50, station.said)


def test_live_picture_survives_both_deaths_and_is_lost_alone(servers: Servers) -> None:
    with storage(servers) as station:
        station.start()
        sender = station.sender()
        for number in range(10):
            sender.send(*verdict(number))
        sender.finish()
        until(lambda: station.live.counters().get("PASS") == 10)
        station.kill()
        station.start()
        for number in range(5, 15):  # five of them again
            sender.send(*verdict(number))
        sender.finish()
        until(lambda: station.live.counters().get("PASS") == 15)
        assert [part.sequence for part in station.live.parts(100)] == list(range(14, -1, -1))
        servers.valkey.kill()
        for number in range(15, 25):
            sender.send(*verdict(number))
        sender.finish()
        until(lambda: station.events("redis_down began") == 1, station.said)
        servers.valkey.start()
        until(lambda: station.events("redis_down ended") == 1, station.said)
        until(lambda: station.live.counters().get("PASS") == 25)  # counted all the same
        until(lambda: station.stored() == 25, station.said)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANDON_DATABASE_URL", None),
        ("ANDON_DATABASE_URL", "no url, secret"),
        ("ANDON_DATABASE_URL", "mysql://me:secret@host/andon"),
        ("ANDON_REDIS_URL", None),
        ("ANDON_REDIS_URL", "http://:secret@host"),
    ],
)
def test_wrong_address_ends_the_process_and_names_the_variable(
    servers: Servers, variable: str, value: str | None
) -> None:
    with storage(servers) as station:
        station.environment.pop(variable)
        if value is not None:
            station.environment[variable] = value
        assert station.fail() == EXIT_CONFIGURATION
        assert variable in station.said()
        assert "secret" not in station.said()


def test_second_process_on_one_journal_is_refused(servers: Servers) -> None:
    with storage(servers) as station:
        station.start()
        holder = station.process
        assert holder is not None
        assert station.fail() == EXIT_FAILURE
        assert f"process {holder.pid} holds this journal" in station.said()
        assert holder.poll() is None


def _crop(number: int) -> tuple[Evidence, list[bytes]]:
    seen = {"part_id": f"st-{RUN}-{number:08}", "trigger_time_ns": time.time_ns(), "camera": "top"}
    return Evidence(**seen, purpose="crop", region=0, width_px=9, height_px=9), [JPEG]
