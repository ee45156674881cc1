"""What a station file names is all looked at before anything is started, and every fault says file and field."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from deploy import stations


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("station.toml", 'type = "modbus"', 'type = "telegraph"', "plc: type: no decision.plc plug-in"),
        ("station.toml", "options.port = 0", "options.port = 0\noptions.colour = 1", "plc: options: colour"),
        ("station.toml", "options.port = 0", 'options.host = "a b"', "plc: options: host"),
        ("station.toml", 'type = "simulated"', 'type = ""', "camera front: type: no ingest.cameras plug-in"),
        ("station.toml", "count = 2", 'count = 2\nlisten = "tcp://10.0.0.1:65534"', "needs 3 ports from 65534 on"),
        ("station.toml", "gate_travel_s = 2.0", "gate_travel_s = inf", "simulation.gate_travel_s"),
        ("station.toml", "rate_per_s = 10", "rate_per_s = 1000", "simulation: 2000 parts"),
        ("station.toml", "[workers]", '[report]\ntype = "nobody"\n[workers]', "report: type: no storage.reports plug"),
        ("station.toml", "[workers]", '[storage.images]\ntype = "cloud"\n[workers]', "storage.images: type"),
        ("station.toml", "[workers]", '[console]\nhost = "a\\u0000"\n[workers]', "console.host"),
        ("station.toml", "[workers]", '[endpoints]\ntriggers = "there"\n[workers]', "endpoints.triggers"),
        ("station.toml", "[recipes]", 'bus_keys = "none"\n[recipes]', "bus_keys: no such file"),
        (
            "station.toml",
            "[workers]",
            '[opcua]\ncertificate = "none.pem"\nprivate_key = "none.pem"\n[workers]',
            "opcua.certificate: no such file",
        ),
        ("bracket.toml", 'product = "bracket"', 'product = "a\\u0000"', "product"),
        ("bracket.toml", "[views.front]", "[views.front]\nminimum_defect_area_px = 18446744073709551616", "area_px"),
        (
            "bracket.toml",
            "[views.front]",
            "[views.front]\nminimum_defect_area_mm2 = 1e308\nmm_per_px = 5e-324",
            "minimum_defect_area_mm2.*mm_per_px",
        ),
    ],
)
def test_a_fault_names_the_file_and_the_field(tmp_path: Path, name: str, old: str, new: str, says: str) -> None:
    for file in stations.DEMO.parent.glob("*.*"):
        shutil.copy(file, tmp_path)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError, match=rf"{name}: .*{says}"):
        stations.read(tmp_path / "station.toml")
