"""The process that reports a station, from the live picture to a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from live_servers import Servers, state_folder
from mqtt_broker import mosquitto, until
from storage_process import verdict

from config import events
from config.home import Home
from config.messages import Health
from config.station import CameraSection, PlcSection, ReportSection, Station
from storage.live import LivePicture


def station(port: int) -> Station:
    return Station(
        station="north",
        line="7",
        recipes={"demo": Path("/demo.toml")},
        recipe="demo",
        cameras=(CameraSection(name="top", type="simulated"),),
        plc=PlcSection(type="modbus"),
        report=ReportSection(type="sparkplug", options={"port": port}),
    )


def test_station_is_reported_while_it_lives(servers: Servers, tmp_path: Path) -> None:
    with state_folder() as folder, mosquitto(tmp_path) as broker:
        home = Home(folder / "home")
        home.make()
        home.write_station(station(broker.port))
        picture = LivePicture(servers.valkey.url, "north", "run", Counter())
        picture.start()
        command = [sys.executable, "-m", "storage.report", "--home", str(home.path)]
        environment = {**os.environ, "ANDON_REDIS_URL": servers.valkey.url}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: broker.of("NBIRTH"))
            assert broker.of("NBIRTH")[0].metrics["Parts/PASS"] == 0
            picture.offer(Health(service="decision", state="READY", pid=1, time_ns=0, counters={}))
            picture.alarms = (events.began("north", "decision", "outbox_full", "ALARM"),)
            part, _ = verdict(3)
            picture.offer(part)
            told: dict[str, object] = {}

            def is_told() -> bool:
                for data in broker.of("NDATA"):
                    told.update(data.metrics)
                return told.get("Last Part/Id") == part.part_id and told.get("State") == "READY"

            until(is_told)
            assert told["Last Part/Verdict"] == part.verdict.value
            assert (told["Alarms/Count"], told["Alarms/Names"]) == (1, "decision:outbox_full")
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=10)
            picture.stop(5)
        assert process.returncode == 0, errors
        until(lambda: broker.of("NDEATH"))


def test_where_nobody_is_to_be_told_is_a_configuration_error(servers: Servers) -> None:
    with state_folder() as folder:
        home = Home(folder / "home")
        home.make()
        home.write_station(station(1).model_copy(update={"report": None}))
        command = [sys.executable, "-m", "storage.report", "--home", str(home.path)]
        environment = {**os.environ, "ANDON_REDIS_URL": servers.valkey.url}
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert ended.returncode == 78
        assert b"no such table" in ended.stderr
