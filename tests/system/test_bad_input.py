"""Whatever is wrong with what people give, the command says what, where, and what would be right; it starts nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from station_process import ANDON

from deploy import cli

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
STATION = (DEMO / "station.toml").read_text()


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stderr: str


Andon = Callable[..., Ended]


@pytest.fixture
def andon(capsys: pytest.CaptureFixture[str]) -> Andon:
    """Run the command in this process: each new one would be a second of imports."""

    def run(*words: object) -> Ended:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as usage:
            code = int(usage.code or 0)
        return Ended(code, capsys.readouterr().err)

    return run


@pytest.fixture
def folder(tmp_path):
    """Give a copy of the demo's files, to be spoilt."""
    for file in DEMO.glob("*.*"):
        if file.suffix in {".toml", ".andon"}:
            shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
def up(andon: Andon, folder: Path) -> Andon:
    """Start a station that must be refused before it has a supervisor, whose signals would be this process's."""

    def run(*words: object) -> Ended:
        before = signal.getsignal(signal.SIGTERM)
        ended = andon("up", "--home", folder / "home", "--port", 0, "--parts", 3, *words)
        assert signal.getsignal(signal.SIGTERM) is before
        return ended

    return run


def spoil(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("station.toml", 'line = "1"', 'line = "1', "line 4"),
        ("station.toml", 'line = "1"', 'colour = "red"', "colour: unknown field"),
        ("station.toml", "rate_per_s = 10", "rate_per_s = -1", "simulation.rate_per_s"),
        ("station.toml", 'type = "simulated"', 'type = "webcam"', "there are folder, simulated"),
        ("station.toml", 'type = "simulated"', 'type = "../evil"', "no ingest.cameras plug-in"),
        (
            "station.toml",
            'type = "simulated"',
            'type = "simulated"\noptions.width_px = 1',
            "camera front: options: width_px",
        ),
        ("station.toml", 'type = "modbus"', 'type = "telegraph"', "no decision.plc plug-in"),
        ("station.toml", 'cap = "cap.toml"', 'cap = "nocap.toml"', "nocap.toml: no such file"),
        ("station.toml", 'cap = "cap.toml"', 'cap = "bracket.toml"', "are both job 1"),
        (
            "station.toml",
            'products = ["bracket", "cap"]',
            'products = ["bracket", "lid"]',
            "'lid' is not among recipes",
        ),
        ("bracket.toml", "[views.front]", "[views.rear]", "the station has no such camera"),
        ("bracket.toml", 'bundle = "bracket.andon"', 'bundle = "none.andon"', "views.front.bundle: no such file"),
        ("bracket.toml", "job = 1", "job = 0", "job: Input should be greater"),
        ("bracket.toml", "review_above = ", "review_above = 1e9 #", "must not exceed reject_above"),
        ("bracket.toml", "review_above = ", "review_above = nan #", "review_above"),
        ("bracket.toml", "deadline_ms", "roi = 3\ndeadline_ms", "roi: unknown field"),
        ("cap.toml", 'bundle_digest = "sha256:', 'bundle_digest = "sha256:0', "the recipe wants"),
    ],
)
def test_files_that_are_wrong(folder, up, name, old, new, says):
    spoil(folder, name, old, new)
    began = time.monotonic()
    found = up("--station", folder / "station.toml")
    assert found.returncode == 78, found.stderr
    assert says in found.stderr, found.stderr
    assert "Traceback" not in found.stderr
    assert time.monotonic() - began < 15
    assert not (folder / "home" / "postgres").exists(), "nothing may be started for a station that cannot run"


def test_a_bundle_with_one_changed_byte_is_refused(folder, up):
    content = bytearray((folder / "bracket.andon").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "bracket.andon").write_bytes(content)
    found = up("--station", folder / "station.toml")
    assert found.returncode == 78
    assert "bracket.andon" in found.stderr


def test_a_truncated_bundle_is_refused(folder, andon):
    content = (folder / "bracket.andon").read_bytes()
    (folder / "short.andon").write_bytes(content[: len(content) // 3])
    for action in ("show", "verify"):
        found = andon("bundle", action, folder / "short.andon")
        assert found.returncode == 2
        assert "short.andon" in found.stderr


def test_an_roi_that_inspects_nothing_is_refused(folder, up):
    import cv2  # noqa: PLC0415 - only here
    import numpy as np  # noqa: PLC0415 - only here

    cv2.imwrite(str(folder / "black.png"), np.zeros((8, 8), np.uint8))
    with (folder / "bracket.toml").open("a") as file:
        file.write('roi = "black.png"\n')
    found = up("--station", folder / "station.toml")
    assert found.returncode == 78
    assert "black all over" in found.stderr


@pytest.mark.parametrize(
    ("environment", "says", "code"),
    [
        ({"ANDON_DATABASE_URL": "nonsense"}, "ANDON_DATABASE_URL", 78),
        ({"ANDON_DATABASE_URL": "postgresql://andon:secret@127.0.0.1:9/andon"}, "ANDON_DATABASE_URL", 1),
        ({"ANDON_REDIS_URL": "http://127.0.0.1"}, "ANDON_REDIS_URL", 78),
    ],
)
def test_servers_that_cannot_be_reached(folder, environment, says, code):
    found = subprocess.run(
        [*ANDON, "up", "--home", str(folder / "home"), "--port", "0", "--parts", "3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert found.returncode == code, found.stderr
    assert says in found.stderr
    assert "secret" not in found.stderr


def test_a_port_in_use(folder, andon):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = andon("up", "--home", folder / "home", "--port", port)
    assert found.returncode == 78
    assert str(port) in found.stderr
    assert "--port" in found.stderr


def test_folders_of_images_that_are_none(folder, up):
    (folder / "empty").mkdir()
    (folder / "learn" / "train" / "good").mkdir(parents=True)
    for number in range(9):
        (folder / "learn" / "train" / "good" / f"{number}.png").write_bytes(b"no picture")
    bundle = ("--bundle", folder / "bracket.andon")
    for words, says in (
        (("--images", folder / "absent"), "no such folder"),
        (("--images", folder / "empty"), "train/good"),
        (("--images", folder / "empty", *bundle), "empty"),
        (("--images", folder / "learn"), "4.png"),
        (("--images", folder / "absent", *bundle), "no such folder"),
    ):
        found = up(*words)
        assert found.returncode in {2, 78}, (words, found.stderr)
        assert says in found.stderr, (words, found.stderr)
        assert "Traceback" not in found.stderr


def test_a_state_folder_that_cannot_be(folder, andon):
    found = andon("up", "--home", folder / "station.toml" / "home")
    assert found.returncode == 78
    assert "--home" in found.stderr


def test_a_full_disk(folder, andon):
    if os.getuid() != 0:
        pytest.skip("a small file system can be mounted by root alone")
    small = folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    try:
        found = andon("up", "--home", small / "home")
    finally:
        subprocess.run(["/bin/umount", str(small)], check=False)
    assert found.returncode == 78
    assert "of disk are free" in found.stderr


@pytest.mark.parametrize("words", [("up", "--parts", "0"), ("up", "--port", "70000"), ("nonsense",), ()])
def test_words_that_mean_nothing(andon, words):
    found = andon(*words)
    assert found.returncode == 2
    assert "usage" in found.stderr
