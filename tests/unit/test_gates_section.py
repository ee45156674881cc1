"""The station file's tables of gates that the station drives itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import files
from config.errors import ConfigurationError
from config.station import Station

WHOLE = """
station = "s"
recipe = "r"
cameras = [{ name = "top", type = "simulated" }]

[recipes]
r = "r.toml"

[io]
type = "modbus"
line_stop_output = 3

[encoder]
mm_per_count = 0.05
top_speed_mm_s = 1000

[[gates]]
name = "rework"
output = 1
distance_mm = 300
window_mm = 60
at_rest = "pass"
ejects = ["REVIEW"]

[[gates]]
name = "reject"
output = 0
distance_mm = 500
window_mm = 60
part = { input = 0, distance_mm = 400, tolerance_mm = 10 }
ejected = { input = 1, after_ms = 100, tolerance_ms = 50 }
bin_full_input = 2
bin_full_stops_line = true
"""


def read(folder: Path, text: str) -> Station:
    (folder / "station.toml").write_text(text)
    return files.read(folder / "station.toml", Station)


def test_a_station_may_have_gates_and_no_plc(tmp_path: Path) -> None:
    station = read(tmp_path, WHOLE)
    assert station.plc is None
    rework, reject = station.gates
    assert (rework.earns, reject.earns) == (False, True)
    assert (reject.start_mm, reject.end_mm, reject.inputs) == (470, 530, [0, 1, 2])
    assert Station.model_validate_json(station.model_dump_json()) == station


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('at_rest = "pass"\nejects = ["REVIEW"]', 'ejects = ["PASS", "REVIEW"]', "never PASS"),
        ('at_rest = "pass"\nejects = ["REVIEW"]', "ejects = []", "must name some of REJECT, REVIEW and FAULT"),
        ("distance_mm = 500\nwindow_mm = 60", "distance_mm = 500\nwindow_mm = 400", "at least 1.5 x window_mm, so 600"),
        ("distance_mm = 400", "distance_mm = 465", "must be at most 470"),
        ("bin_full_input = 2\n", "", "needs bin_full_input"),
        ('name = "reject"\n', 'name = "reject"\nejects = ["REJECT"]\n', "at least one must have at_rest"),
        ('name = "reject"\n', 'name = "reject"\nat_rest = "pass"\n', "at least one must have at_rest"),
        ('name = "reject"', 'name = "rework"', "names must differ: rework is named twice"),
        ("output = 0", "output = 3", "outputs .* must differ: 3 is named twice"),
        ("bin_full_input = 2", "bin_full_input = 1", "inputs must differ: 1 is named twice"),
        ("{ input = 1, after_ms", "{ counter = 0, after_ms", "counters .* must differ: 0 is named twice"),
        ("{ input = 0, distance", "{ distance", "either an input or a counter"),
        ("{ input = 0, distance", "{ counter = 0, distance", "counters .* must differ: 0 is named twice"),
        ("{ input = 0, d", "{ input = 0, pulse_ms = 9, d", r"part.pulse_ms 9: .* every 5 ms .* below 10 ms"),
        ('type = "modbus"', 'type = "modbus"\npoll_ms = 6', r"gate reject: part.pulse_ms 10: .* below 12 ms"),
        ("{ input = 1, after_ms", "{ after_ms", "either an input or a counter"),
        ("distance_mm = 300", "distance_mm = 600", "by rising distance_mm"),
        ("mm_per_count = 0.05", "mm_per_count = 0", "such as 0.05, not 0"),
        ("[encoder]\nmm_per_count = 0.05\ntop_speed_mm_s = 1000", "", r"either an \[encoder\] table, or a \[belt\]"),
        ("[io]", "[belt]\nspeed_mm_s = 5\n[io]", r"either an \[encoder\] table, or a \[belt\]"),
        ('[io]\ntype = "modbus"\nline_stop_output = 3', "", r"need an \[io\] table"),
    ],
)
def test_what_makes_no_whole_is_refused_and_told_what_would(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path, WHOLE.replace(old, new, 1))


def test_tables_of_gates_without_gates_are_refused(tmp_path: Path) -> None:
    head = WHOLE[: WHOLE.index("[[gates]]")]
    with pytest.raises(ConfigurationError, match="nothing would eject a part"):
        read(tmp_path, head)
    with pytest.raises(ConfigurationError, match=r"io: belongs to gates .* there are no \[\[gates\]\]"):
        read(tmp_path, head + '[plc]\ntype = "modbus"\n')
