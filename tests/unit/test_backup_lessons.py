"""Lessons of Teach in a backup: whatever their classes are called, and nothing that would lie elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.errors import InputError
from config.home import Home
from config.lessons import Collecting, Lesson, Lessons, State
from deploy.backup import lessons
from deploy.backup.archive import Meter, Reader, Writer
from deploy.backup.manifest import FORMAT, Header, Manifest

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def quiet(*_: object) -> None:
    """Take progress and say nothing."""


def written(path: Path, home: Home | None, **members: bytes) -> Reader:
    header = Header(format=FORMAT, backup="b", made_at=NOW, station="st", revision="r", andon="1")
    with Writer(path, header, 0) as writer:
        if home is not None:
            lessons.copy(home, writer, Meter(quiet, "lessons", lessons.size_bytes(home)))
        for name, content in members.items():
            writer.add(f"lessons/0123456789ab/{name.replace('_', '.')}", content)
        writer.finish(Manifest(tables=(), sequences={}, left_out=(), missing=(), images="database"))
    return Reader(path, quiet)


def test_lessons_come_back_with_classes_in_any_script(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    held = Lessons(home.path, tmp_path)

    def make(lesson_id: str) -> Lesson:
        return Lesson(
            id=lesson_id, product="cap", recipe="cap", camera="top", by="ada", began_at=NOW, since=NOW,
            collecting=Collecting(), state=State.READY,
        )  # fmt: skip

    lesson = held.begin(make)
    long = "x" * 110 + ".png"
    held.add(lesson.id, long, b"good")
    scratched = held.path(lesson.id) / "images" / "test" / "긁힘" / "1.png"
    found = held.path(lesson.id) / "out" / "fit" / "pictures" / "1.png"
    for path in (scratched, found):
        path.parent.mkdir(parents=True)
        path.write_bytes(path.parent.name.encode())
    with written(tmp_path / "b.tar", home) as reader:
        back = {place: b"".join(reader.pieces(member)) for member, place in lessons.found_in(reader)}
    own = f"lessons/{lesson.id}"
    assert back.pop(f"{own}/lesson.json") == (held.path(lesson.id) / "lesson.json").read_bytes()
    assert back == {
        f"{own}/images/train/good/{long}": b"good",
        f"{own}/images/test/긁힘/1.png": "긁힘".encode(),
        f"{own}/out/fit/pictures/1.png": b"pictures",
    }


@pytest.mark.parametrize("said", ["../../x", "/etc/x", "images/../../x", "images", "images//x", "other/x"])
def test_a_file_that_would_lie_elsewhere_is_refused(tmp_path: Path, said: str) -> None:
    with (
        written(tmp_path / "b.tar", None, **{"000000": b"x", "files_json": json.dumps([said]).encode()}) as reader,
        pytest.raises(InputError, match="is no file of a lesson"),
    ):
        list(lessons.found_in(reader))
