"""What learning needs is fetched by pip itself: here from nowhere, or of what is there already."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.extras import LEARNING, UNDER_WAY, Fetch, Fetching, Step, requirements
from deploy.teacher import fetching as teacher

WANTED = Fetch(by="jin", at=datetime(2026, 11, 23, 5, 0, tzinfo=UTC))


@pytest.fixture
def fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetching:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    kept = Fetching(tmp_path)
    kept.tell(WANTED)
    return kept


def test_an_extra_is_what_it_says_and_nothing_of_another():
    found = requirements(LEARNING)
    assert "torch==2.13.0" in found
    assert "onnxscript" in found
    assert "pytest" not in found
    assert not any(";" in one or " " in one for one in found)


def test_what_is_there_is_done_and_leaves_nothing_behind(fetching, monkeypatch):
    monkeypatch.setattr(teacher, "requirements", lambda _: ["pytest"])
    monkeypatch.setattr(teacher, "_PROBE", "import json")
    teacher.fetch(fetching, WANTED)
    assert fetching.read() == WANTED.model_copy(update={"step": Step.DONE})
    assert [path.name for path in fetching.path.parent.iterdir()] == ["fetch.json"]


def test_what_cannot_be_had_says_why(fetching, monkeypatch):
    monkeypatch.setattr(teacher, "requirements", lambda _: ["andon-of-nobody==9"])
    teacher.fetch(fetching, WANTED)
    told = fetching.read()
    assert told is not None
    assert told.step is Step.FAILED
    assert "No matching distribution found for andon-of-nobody==9" in told.detail
    assert not [path for path in fetching.path.parent.iterdir() if path.name != "fetch.json"]


def test_what_is_there_and_does_not_load_is_installed_anew_and_said(fetching, monkeypatch):
    asked: list[list[str]] = []
    monkeypatch.setattr(teacher, "_PROBE", "import andon_of_nobody")
    monkeypatch.setattr(teacher, "requirements", lambda _: ["pytest"])
    monkeypatch.setattr(teacher, "_pip", lambda *words: asked.append(list(words[-1])))
    teacher.fetch(fetching, WANTED)
    assert asked == [["pytest"], ["--force-reinstall", "--no-deps", "pytest"]]
    told = fetching.read()
    assert told is not None
    assert "does not load" in told.detail


def test_lines_of_pip_say_how_far_it_is():
    now = WANTED
    steps = []
    for line in (
        "Collecting torch==2.13.0",
        "Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (190.5 MB)",
        "Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)",
        "Requirement already satisfied: numpy in /opt/andon",
        "Installing collected packages: six, torch",
        "",
    ):
        now = teacher._further(now, line)
        steps.append(now.step)
    assert steps == [
        Step.FINDING, Step.DOWNLOADING, Step.DOWNLOADING, Step.FINDING, Step.INSTALLING, Step.INSTALLING,
    ]  # fmt: skip
    assert (now.file, now.total_bytes) == ("six-1.17.0-py2.py3-none-any.whl", 11_000)


def test_a_damaged_word_is_none_and_is_written_anew(tmp_path):
    kept = Fetching(tmp_path)
    assert kept.read() is None
    kept.tell(WANTED)
    kept.path.write_text("{")
    assert kept.read() is None
    kept.tell(WANTED)
    told = kept.read()
    assert told is not None
    assert told.step in UNDER_WAY
