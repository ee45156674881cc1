"""The folder camera: which images in which order with which truth, and what it says of damaged ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from config import imagefile, plugins
from config.errors import ConfigurationError
from config.home import Home, Run
from config.messages import Reason, Truth
from config.station import CameraSection, PlcSection, SimulationSection, Station
from ingest.camera import Exposure, TriggerLine
from ingest.cameras import folder as plug_in
from ingest.parts.rendering import render

Open = Callable[..., plug_in.Camera]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    home.make()
    home.write_station(
        Station(
            station="s1",
            recipes={"a": Path("/a.toml")},
            recipe="a",
            cameras=(CameraSection(name="top", type="folder"),),
            plc=PlcSection(type="modbus"),
            simulation=SimulationSection(rate_per_s=1000, products=("a",), seed=3),
        )
    )
    yield home
    shutil.rmtree(home.runtime)


def play(home: Home, folder: Path, count: int, **options: object) -> list[Exposure]:
    """Return the first `count` exposures of a line that starts in a moment."""
    camera = made(home, folder, **options)
    camera.open()
    return begin(home, camera, count)


def begin(home: Home, camera: plug_in.Camera, count: int) -> list[Exposure]:
    coming = camera.exposures(0)
    run = Run(run_id="r1", parts=count)
    home.write_run(run)
    home.write_start(run, time.monotonic_ns())
    return list(coming)


def made(home: Home, folder: Path, **options: object) -> plug_in.Camera:
    values = plugins.options(plug_in, {"path": str(folder), **options}, "options")
    assert isinstance(values, plug_in.Options)
    return plug_in.Camera(values, "top", TriggerLine(home))


def write(path: Path, sequence: int = 0, side_px: int = 48, *, colour: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), render("cap", 0, sequence, width_px=side_px, height_px=side_px, colour=colour).pixels)
    return path


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec"
    for number in range(3):
        write(root / "train" / "good" / f"{number}.png", number)
        for kind in ("good", "bent", "cut"):
            write(root / "test" / kind / f"{number}.png", number)
            write(root / "ground_truth" / kind / f"{number}_mask.png", number)
    return root


def test_the_mvtec_layout_plays_its_test_images_with_their_classes(home: Home, mvtec: Path) -> None:
    exposures = play(home, mvtec, 9, order="name")
    assert [exposure.truth for exposure in exposures] == [
        Truth(good=kind == "good", defect=None if kind == "good" else kind, source=f"test/{kind}/{number}.png")
        for kind in ("bent", "cut", "good")
        for number in range(3)
    ]


def test_classes_are_shuffled_by_seed_so_that_good_and_bad_mix(home: Home, mvtec: Path) -> None:
    def sources(**options: object) -> list[str | None]:
        return [exposure.truth.source for exposure in play(home, mvtec, 9, **options) if exposure.truth]

    shuffled = sources()
    assert shuffled != sorted(shuffled, key=str)
    assert set(shuffled) == set(sources(order="name"))
    assert shuffled == sources(seed=3)  # the simulation's
    assert shuffled != sources(seed=4)


def test_a_plain_folder_plays_by_name_without_truth_and_from_the_start_again(home: Home, tmp_path: Path) -> None:
    for number, name in enumerate(["b.png", "a.JPG", "c.bmp"]):
        write(tmp_path / "plain" / name, number)
    (tmp_path / "plain" / "notes.txt").write_text("no image")
    exposures = play(home, tmp_path / "plain", 7)
    assert all(exposure.truth is None for exposure in exposures)
    pictures = [exposure.pixels for exposure in exposures if exposure.pixels is not None]
    assert len(pictures) == 7
    for number, name in enumerate(["a.JPG", "b.png", "c.bmp", "a.JPG", "b.png", "c.bmp", "a.JPG"]):
        np.testing.assert_array_equal(pictures[number], cv2.imread(str(tmp_path / "plain" / name)))


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_opencv_in_both_formats(
    home: Home,
    tmp_path: Path,
    colour: bool,  # noqa: FBT001 - a case
    channels: int,
) -> None:
    path = write(tmp_path / "plain" / "a.png", colour=colour)
    (exposure,) = play(home, tmp_path / "plain", 1, channels=channels)
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    expected = cv2.imread(str(path), flag)
    assert expected is not None
    assert exposure.pixels is not None
    np.testing.assert_array_equal(exposure.pixels, expected.reshape(48, 48, channels))


def test_open_tells_the_bytes_of_the_largest_frame(home: Home, tmp_path: Path) -> None:
    for number, (suffix, side_px) in enumerate([(".png", 40), (".jpg", 100), (".bmp", 90), (".ppm", 60), (".tif", 80)]):
        write(tmp_path / "plain" / f"{number}{suffix}", side_px=side_px)
    assert made(home, tmp_path / "plain").open() == 100 * 100 * 3
    (tmp_path / "plain" / "1.jpg").unlink()
    assert made(home, tmp_path / "plain", channels=1).open() == 90 * 90
    (tmp_path / "plain" / "2.bmp").unlink()
    assert made(home, tmp_path / "plain", channels=1).open() == 80 * 80


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm"])
def test_an_image_that_is_not_whole_is_told_and_the_next_one_plays(home: Home, tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / "plain" / f"a{suffix}").read_bytes()
    assert imagefile.damage(whole) is None
    for number, share in enumerate([0.0, 0.02, 0.5, 0.9, 0.995]):
        (tmp_path / "plain" / f"b{number}{suffix}").write_bytes(whole[: int(len(whole) * share)])
    write(tmp_path / "plain" / f"c{suffix}")
    exposures = play(home, tmp_path / "plain", 8)
    assert [exposure.reason for exposure in exposures] == [None, *[Reason.UNREADABLE_FRAME] * 5, None, None]
    assert [exposure.pixels is None for exposure in exposures] == [False, *[True] * 5, False, False]


def test_what_is_no_image_or_gone_is_told(home: Home, tmp_path: Path) -> None:
    write(tmp_path / "plain" / "a.png")
    (tmp_path / "plain" / "b.png").write_text("<html>404</html>")
    (tmp_path / "plain" / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    damaged = bytearray((tmp_path / "plain" / "a.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "plain" / "d.png").write_bytes(damaged)
    write(tmp_path / "plain" / "e.png")
    camera = made(home, tmp_path / "plain")
    camera.open()
    (tmp_path / "plain" / "e.png").unlink()
    reasons = [exposure.reason for exposure in begin(home, camera, 5)]
    assert reasons == [None, *[Reason.UNREADABLE_FRAME] * 4]


def test_a_truncated_progressive_jpeg_with_a_preview_is_noticed() -> None:
    # the preview has an end marker of its own, which must not be taken for the picture's
    pixels = render("cap", 0, 0, width_px=96, height_px=96).pixels
    done, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    preview = b"Exif\0\0" + jpeg.tobytes()
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    whole = jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:]
    assert imagefile.damage(whole) is None
    assert imagefile.damage(whole + b"\0" * 512) is None  # padded by a camera
    assert (
        imagefile.damage(whole[: len(whole) * 9 // 10])
        == f"truncated: JPEG without end marker in {len(whole) * 9 // 10} bytes"
    )


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda _folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no images in it; they lie there or in .*/test/good"),
        (lambda folder: write(folder / "train" / "good" / "a.png"), "no images in it"),
        (lambda folder: (folder / "test" / "good").mkdir(parents=True), "no images in it; test images lie in"),
        (lambda folder: folder.write_text("a file"), "no such folder"),
    ],
)
def test_a_folder_without_images_is_a_configuration_error(
    home: Home, tmp_path: Path, prepare: Callable[[Path], object], said: str
) -> None:
    prepare(tmp_path / "plain")
    with pytest.raises(ConfigurationError, match=f"camera top: {tmp_path}/plain.*{said}"):
        made(home, tmp_path / "plain").open()


def test_a_relative_path_is_refused(home: Home) -> None:
    with pytest.raises(ConfigurationError, match=r"path: .*must be an absolute path"):
        made(home, Path("images"))
