"""What a release leaves behind: what is in force stays so in later runs."""

from __future__ import annotations

from pathlib import Path

from config import recipe
from config.station import CameraSection, PlcSection, Station
from config.versions import Versions

RECIPE = """
product = "cap"
job = 1
version = {version}
[views.front]
bundle = "{bundle}"
bundle_digest = "sha256:{bundle}"
review_above = 1.0
reject_above = 2.0
"""


def test_released_bundle_counts_in_later_runs_until_the_file_says_something_else(tmp_path: Path) -> None:
    file = tmp_path / "cap.toml"
    for name in ("old", "new", "newer"):
        (tmp_path / name).touch()
    file.write_text(RECIPE.format(version=1, bundle="old"))
    station = Station(
        station="s",
        recipes={"cap": file},
        recipe="cap",
        cameras=(CameraSection(name="front", type="simulated"),),
        plc=PlcSection(type="modbus"),
    )
    versions = Versions(tmp_path / "versions")
    of_file = versions.begin("r1", station)["cap"]
    view = of_file.views["front"].model_copy(update={"bundle": tmp_path / "new", "bundle_digest": "sha256:new"})
    wanted = versions.copy(of_file.model_copy(update={"version": 2, "views": {"front": view}}))
    versions.adopt("cap", wanted, recipe.digest(recipe.content(of_file)))
    for run in ("r1", "r2", "r3"):
        found = versions.begin(run, station)["cap"]
        assert (found.version, found.views["front"].bundle) == (2, tmp_path / "new"), run
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "old").rename(tmp_path / "elsewhere" / "old")
    file.write_text(RECIPE.format(version=1, bundle="old").replace('bundle = "old"', 'bundle = "elsewhere/old"'))
    assert versions.begin("r4", station)["cap"].views["front"].bundle == tmp_path / "new", "the same content elsewhere"
    file.write_text(RECIPE.format(version=3, bundle="newer"))
    found = versions.begin("r5", station)["cap"]
    assert (found.version, found.views["front"].bundle) == (3, tmp_path / "newer")
