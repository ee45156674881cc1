"""What every camera plug-in must do; a new plug-in joins by an entry in OPTIONS."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from config import plugins
from config.errors import ConfigurationError
from config.home import Home, Run
from config.messages import Reason
from config.schedule import Schedule
from config.station import CameraSection, PlcSection, SimulationSection, Station
from ingest.camera import Camera, Exposure, TriggerLine
from ingest.parts.rendering import render

FOLDER = "FOLDER"  # stands for the path of a folder of images
OPTIONS: dict[str, dict[str, object]] = {
    "simulated": {"width_px": 96, "height_px": 64, "defect_rate": 0.5},
    "folder": {"path": FOLDER},
}
RATE_PER_S = 100.0
PERIOD_NS = 10_000_000
# cameras of this folder that need no line are tested by tests of their own
PLAYERS = [name for name in plugins.names("ingest.cameras") if name in OPTIONS]

Make = Callable[..., tuple[Camera, Home]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for kind in ("good", "bent"):
        (folder / "test" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = render("cap", 1, number, width_px=64 + 16 * number, height_px=64).pixels
            cv2.imwrite(str(folder / "test" / kind / f"{number}.png"), pixels)
    return folder


@pytest.fixture
def make(tmp_path: Path, pictures: Path) -> Iterator[Make]:
    """Return a camera of a line that has not begun yet, and the line's home."""
    homes: list[Home] = []
    cameras: list[Camera] = []

    def made(kind: str, **changes: object) -> tuple[Camera, Home]:
        values = {**OPTIONS[kind], **changes}
        values = {name: str(pictures) if value == FOLDER else value for name, value in values.items()}
        home = Home(tmp_path / f"home{len(homes)}")
        homes.append(home)
        home.make()
        home.write_station(
            Station(
                station="s1",
                recipes={"cap": Path("/cap.toml"), "board": Path("/board.toml")},
                recipe="cap",
                cameras=(CameraSection(name="top", type=kind, options=values),),
                plc=PlcSection(type="modbus"),
                simulation=SimulationSection(
                    rate_per_s=RATE_PER_S, products=("cap", "board"), changeover_every_parts=3, changeover_pause_s=0
                ),
            )
        )
        home.write_run(Run(run_id="r1"))
        plug_in = plugins.load("ingest.cameras", kind)
        camera: Camera = plug_in.Camera(plugins.options(plug_in, values, "options"), "top", TriggerLine(home))
        cameras.append(camera)
        return camera, home

    yield made
    for camera in cameras:
        camera.close()
    for home in homes:
        shutil.rmtree(home.runtime)


def begin(home: Home, *, parts: int | None = None, ago_s: float = 0.0) -> Schedule:
    """Let the line begin so long ago."""
    run = Run(run_id="r1", parts=parts)
    home.write_run(run)
    home.write_start(run, time.monotonic_ns() - round(ago_s * 1e9))
    schedule = home.schedule()
    assert schedule
    return schedule


def test_every_plug_in_is_tested() -> None:
    assert {"simulated", "folder"} <= set(PLAYERS)


@pytest.mark.parametrize("kind", PLAYERS)
def test_unknown_options_are_refused_by_name(kind: str, make: Make) -> None:
    with pytest.raises(ConfigurationError, match="brightness: unknown field"):
        make(kind, brightness=3)


@pytest.mark.parametrize("kind", PLAYERS)
def test_every_part_is_exposed_in_order_and_then_the_line_ends(kind: str, make: Make) -> None:
    camera, home = make(kind)
    largest_bytes = camera.open()
    coming = camera.exposures(0)
    schedule = begin(home, parts=12)
    exposures = list(coming)
    assert [exposure.sequence for exposure in exposures] == list(range(12))
    assert [exposure.time_ns for exposure in exposures] == [schedule.time_ns(number) for number in range(12)]
    for exposure in exposures:
        assert exposure.reason is None
        assert exposure.pixels is not None
        assert exposure.pixels.dtype == np.uint8
        assert exposure.pixels.ndim == 3
        assert exposure.pixels.shape[2] == 3
        assert exposure.pixels.nbytes <= largest_bytes
        assert exposure.truth
        assert exposure.truth.good == (exposure.truth.defect is None)
    assert {exposure.truth.good for exposure in exposures if exposure.truth} == {True, False}


@pytest.mark.parametrize("kind", PLAYERS)
def test_no_exposure_comes_before_its_trigger_and_its_picture_is_ready_by_then(kind: str, make: Make) -> None:
    camera, home = make(kind)
    camera.open()
    coming = camera.exposures(0)
    begin(home)
    delays_ns = sorted(time.monotonic_ns() - exposure.time_ns for exposure in islice(coming, 20))
    assert delays_ns[0] >= 0
    assert delays_ns[2] < PERIOD_NS  # the machine may be busy for a while, not all the time


@pytest.mark.parametrize("kind", PLAYERS)
def test_the_same_part_gives_the_same_pixels_whenever_it_is_asked_for(kind: str, make: Make) -> None:
    whole, home = make(kind)
    whole.open()
    coming = whole.exposures(0)
    begin(home, parts=8)
    exposures = list(coming)
    later, home = make(kind)
    later.open()
    coming = later.exposures(5)
    begin(home, parts=8)
    for exposure in coming:
        expected = exposures[exposure.sequence]
        assert exposure.truth == expected.truth
        assert exposure.pixels is not None
        assert expected.pixels is not None
        np.testing.assert_array_equal(exposure.pixels, expected.pixels)


@pytest.mark.parametrize("kind", PLAYERS)
def test_parts_that_went_by_during_an_outage_are_told_and_then_it_goes_on_live(kind: str, make: Make) -> None:
    camera, home = make(kind)
    camera.open()
    schedule = begin(home, ago_s=2.0)
    before_ns = time.monotonic_ns()
    coming = camera.exposures(7)
    after_ns = time.monotonic_ns()
    exposures: list[Exposure] = []
    while sum(exposure.reason is None for exposure in exposures) < 3:
        exposures.append(next(coming))
    assert [exposure.sequence for exposure in exposures] == list(range(7, 7 + len(exposures)))
    missed = [exposure for exposure in exposures if exposure.reason]
    taken = exposures[len(missed) :]
    assert {exposure.reason for exposure in missed} == {Reason.CAMERA_DOWN}
    assert all(exposure.pixels is None and exposure.truth for exposure in missed)
    assert all(exposure.pixels is not None for exposure in taken)
    # a part is missed if it went by more than one period before the camera came back, and only then
    assert missed[-1].time_ns <= after_ns - PERIOD_NS
    assert taken[0].time_ns >= before_ns - PERIOD_NS
    assert exposures[100].time_ns == schedule.time_ns(exposures[100].sequence)


@pytest.mark.parametrize("kind", PLAYERS)
def test_a_line_that_ended_during_the_outage_ends(kind: str, make: Make) -> None:
    camera, home = make(kind)
    camera.open()
    begin(home, parts=9, ago_s=60.0)
    exposures = list(camera.exposures(4))
    assert [(exposure.sequence, exposure.reason) for exposure in exposures] == [
        (number, Reason.CAMERA_DOWN) for number in range(4, 9)
    ]


@pytest.mark.parametrize("kind", PLAYERS)
@pytest.mark.parametrize("waits_for", ["part", "start"])
def test_close_ends_the_exposures_at_once(kind: str, waits_for: str, make: Make) -> None:
    camera, home = make(kind)
    camera.open()
    if waits_for == "part":
        begin(home, ago_s=-3600.0)
    ended = threading.Event()

    def shoot() -> None:
        assert list(camera.exposures(0)) == []
        ended.set()

    thread = threading.Thread(target=shoot, daemon=True)
    thread.start()
    assert not ended.wait(0.1)
    camera.close()
    assert ended.wait(0.5)
    thread.join()


@pytest.mark.parametrize("kind", PLAYERS)
def test_close_ends_the_telling_of_missed_parts(kind: str, make: Make) -> None:
    camera, home = make(kind)
    camera.open()
    begin(home, ago_s=3600.0)
    exposures = camera.exposures(0)
    assert next(exposures).reason is Reason.CAMERA_DOWN
    camera.close()
    assert list(exposures) == []


@pytest.mark.parametrize("kind", PLAYERS)
def test_a_station_without_a_simulated_line_is_a_configuration_error(kind: str, make: Make) -> None:
    camera, home = make(kind)
    home.write_station(home.read_station().model_copy(update={"simulation": None}))
    with pytest.raises(ConfigurationError, match=r"no \[simulation\]"):
        camera.open()


def test_a_product_that_cannot_be_rendered_is_named_with_those_that_can(make: Make) -> None:
    camera, home = make("simulated")
    station = home.read_station()
    assert station.simulation
    simulation = station.simulation.model_copy(update={"products": ("gear",)})
    home.write_station(
        station.model_copy(update={"simulation": simulation, "recipes": {"gear": Path("/g.toml")}, "recipe": "gear"})
    )
    with pytest.raises(ConfigurationError, match=r"'gear' can be rendered: there are board, bracket, cap"):
        camera.open()


def test_every_so_many_parts_are_bad_on_purpose_for_every_camera_that_looks(make: Make) -> None:
    seen = []
    for changes in ({"defect_rate": 0.0}, {"defect_rate": 0.0, "side": "bottom"}):
        camera, home = make("simulated", **changes)
        station = home.read_station()
        assert station.simulation
        simulation = station.simulation.model_copy(update={"challenge_every_parts": 4})
        home.write_station(station.model_copy(update={"simulation": simulation}))
        camera.open()
        begin(home, parts=12)
        seen.append([exposure.truth for exposure in camera.exposures(0) if exposure.truth])
    assert seen[0] == seen[1]
    assert [truth.challenge for truth in seen[0]] == [False, False, False, True] * 3
    for truth in seen[0]:
        assert truth.good is not truth.challenge
        assert (truth.defect is None) is truth.good


def test_challenge_parts_change_no_other_part(make: Make) -> None:
    lines = []
    for every in (0, 3):
        camera, home = make("simulated")
        station = home.read_station()
        assert station.simulation
        simulation = station.simulation.model_copy(update={"challenge_every_parts": every})
        home.write_station(station.model_copy(update={"simulation": simulation}))
        camera.open()
        begin(home, parts=9)
        lines.append(list(camera.exposures(0)))
    compared = 0
    for one, other in zip(*lines, strict=True):
        assert other.truth
        if other.truth.challenge:
            assert other.truth.good is False
            continue
        assert one.truth == other.truth
        if one.pixels is not None and other.pixels is not None:  # a busy machine may miss a picture
            np.testing.assert_array_equal(one.pixels, other.pixels)
            compared += 1
    assert compared


def test_two_simulated_cameras_see_the_same_parts_from_two_sides(make: Make) -> None:
    above, home_above = make("simulated")
    below, home_below = make("simulated", side="bottom", colour=False)
    assert above.open() == 3 * below.open()
    seen = above.exposures(0), below.exposures(0)
    begin(home_above, parts=8)
    begin(home_below, parts=8)
    pairs = list(zip(*seen, strict=True))
    assert all(one.truth == other.truth for one, other in pairs)
    assert all(other.pixels is not None and other.pixels.shape == (64, 96, 1) for _, other in pairs)


def test_the_simulated_camera_renders_what_the_schedule_puts_on_the_belt(make: Make) -> None:
    camera, home = make("simulated")
    camera.open()
    begin(home, parts=7)
    sources = [exposure.truth.source for exposure in camera.exposures(0) if exposure.truth]
    assert sources == [f"{product}/0/{number}" for number, product in enumerate(["cap"] * 3 + ["board"] * 3 + ["cap"])]
