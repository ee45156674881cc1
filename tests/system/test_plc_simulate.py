"""`andon plc simulate` alone, as a controls engineer starts it: a PLC that leads a station's link."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from station_process import ANDON

from config import plugins
from config.messages import GateCommand, Judgement
from decision.gate import StationState
from decision.ledger import Ledger
from decision.link import Link
from decision.news import GateOutcomeSeen, PartTriggered
from deploy.cli import main


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


PARTS = 12
FAULTS = """
[[faults]]
name = "drop"
at_s = 0.5
for_s = 0.3
"""


@pytest.mark.parametrize("kind", ["modbus", "s7"])
def test_alone_it_triggers_each_part_by_its_number_and_its_gate_obeys(tmp_path: Path, kind: str) -> None:
    """Every third part is judged to be rejected; the connection is lost in between, by a script."""
    (tmp_path / "faults.toml").write_text(FAULTS)
    port = free_port()
    command = [*ANDON, "plc", "simulate", "--home", str(tmp_path / "home"), "--type", kind, "--port", f"{port}"]
    belt = [
        "--rate",
        "8",
        "--travel",
        "0.6",
        "--parts",
        f"{PARTS}",
        "--faults",
        str(tmp_path / "faults.toml"),
        "--json",
    ]
    plc = subprocess.Popen([*command, *belt], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    plug_in = plugins.load("decision.plc", kind)
    link = Link(plug_in.Driver(plug_in.Options(port=port)), "run", Counter(), ledger=Ledger(tmp_path, "run"))
    link.start()
    link.job_active(1)
    triggered: list[int] = []
    seen: dict[int, str] = {}
    try:
        while plc.poll() is None:
            link.able(StationState.READY)
            for event in link.events():
                if isinstance(event, PartTriggered):
                    part = event.part.sequence
                    triggered.append(part)
                    link.exposed(part)
                    passes = part % 3 != 2
                    told = (GateCommand.PASS, Judgement.PASS) if passes else (GateCommand.REJECT, Judgement.REJECT)
                    link.order(part, f"p{part}", *told, time.monotonic_ns() + 600_000_000)
                elif isinstance(event, GateOutcomeSeen):
                    seen[event.sequence] = event.outcome
            time.sleep(0.005)
    finally:
        plc.kill()
        link.close()
    output, errors = plc.communicate()
    assert plc.returncode == 0, errors
    tally = json.loads(output)
    assert triggered == sorted(set(triggered))
    passing = [part for part in triggered if part % 3 != 2]
    assert tally["passed"] + tally["ejected"] == PARTS, tally
    assert 4 < tally["passed"] <= len(passing), tally
    assert tally["untriggered"] == PARTS - len(triggered) > 0, "some came while the connection was lost"
    assert tally["escapes"] == 0, tally
    assert all((seen[part] == "PASSED") == (part in passing) for part in triggered if part in seen)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "--type", "telegraph"], "plc.type 'telegraph'"),
        (["simulate", "--type", "modbus", "--rate", "0"], "rate_per_s"),
        (["simulate", "--type", "modbus", "--option", "unit"], "--option unit"),
        (["fault", "fire"], "no fault is named 'fire'"),
        (["fault", "drop", "--for", "0"], "--for: must be above 0"),
        (["fault", "drop"], "no PLC simulator runs here"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, capsys, words: list[str], said: str) -> None:
    assert main(["plc", *words, "--home", str(tmp_path / "home")]) == 78
    assert said in capsys.readouterr().err
