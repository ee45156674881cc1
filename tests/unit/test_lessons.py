"""Lessons: what may follow what, whose attempt counts, and what they may hold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from config import lessons as module
from config.errors import ConfigurationError, InputError
from config.lessons import Lesson, Lessons, Progress, State

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def lessons(tmp_path: Path) -> Lessons:
    (tmp_path / "runtime").mkdir()
    return Lessons(tmp_path, tmp_path / "runtime")


def begin(lessons: Lessons) -> Lesson:
    def make(lesson_id: str) -> Lesson:
        return Lesson(
            id=lesson_id,
            product="cap",
            recipe="cap",
            camera="front",
            by="ada",
            began_at=NOW,
            state=State.COLLECTING,
            since=NOW,
            attempt=1,
        )

    return lessons.begin(make)


def test_way_from_images_to_release_and_back(lessons: Lessons) -> None:
    lesson = begin(lessons)
    way = ("READY", "CHECKING", "READY", "FITTING", "FITTED", "SHADOW", "RELEASING", "RELEASED", "RETURNING", "FITTED")
    for state in way:
        lesson = lesson.to(State(state), NOW)
    assert lesson.attempt == 4  # collecting, checking, fitting, shadowing: each a work of its own


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ("COLLECTING", "RELEASED"),
        ("READY", "SHADOW"),
        ("READY", "RELEASING"),
        ("FITTING", "SHADOW"),
        ("FITTED", "RELEASED"),
        ("RELEASED", "FITTING"),
        ("RELEASING", "CANCELLED"),
        ("CANCELLED", "COLLECTING"),
    ],
)
def test_what_does_not_follow_is_refused_and_says_what_would(lessons: Lessons, state: str, wanted: str) -> None:
    lesson = begin(lessons).model_copy(update={"state": State(state)})
    with pytest.raises(InputError, match=f"is {state}, which {wanted} does not follow: .* may"):
        lesson.to(State(wanted), NOW)


def test_every_state_can_be_left_or_is_the_end(lessons: Lessons) -> None:
    lesson = begin(lessons)
    for state in State:
        left = [other for other in State if _follows(lesson.model_copy(update={"state": state}), other)]
        assert left or state is State.CANCELLED, state


def _follows(lesson: Lesson, state: State) -> bool:
    try:
        lesson.to(state, NOW)
    except InputError:
        return False
    return True


def test_progress_of_another_attempt_is_none(lessons: Lessons) -> None:
    lesson = begin(lessons)
    assert lessons.progress(lesson) is None
    lessons.tell(lesson.id, Progress(attempt=1, stage="collect", done=3, total=10))
    found = lessons.progress(lesson)
    assert found is not None
    assert found.done == 3
    assert lessons.progress(lesson.model_copy(update={"attempt": 2})) is None


def test_images_have_safe_names_and_a_bound(lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = begin(lessons)
    assert lessons.add(lesson.id, "a.png", PNG)
    assert not lessons.add(lesson.id, "a.png", PNG), "the same name is the same image"
    assert lessons.add(lesson.id, "b.png", PNG, "scratch")
    assert lessons.images(lesson.id) == ["a.png"]
    assert lessons.defects(lesson.id) == {"scratch": ["b.png"]}
    for name in ("../a.png", "/etc/passwd", "a.jpg", ".png", "a/b.png", "x" * 130 + ".png"):
        with pytest.raises(InputError):
            lessons.add(lesson.id, name, PNG)
        with pytest.raises(InputError):
            lessons.image(lesson.id, name)
    for kind in ("..", "a/b", "good", "GOOD", ""):
        with pytest.raises(InputError):
            lessons.add(lesson.id, "c.png", PNG, kind)
    monkeypatch.setattr(module, "MOST_IMAGES", 2)
    with pytest.raises(InputError, match="has 2 images, as many as it may"):
        lessons.add(lesson.id, "c.png", PNG)


def test_ids_are_no_paths_and_a_damaged_lesson_hides_no_other(lessons: Lessons, tmp_path: Path) -> None:
    lesson, other = begin(lessons), begin(lessons)
    for lesson_id in ("..", "../x", "", "ABCDEF012345", "0" * 11):
        with pytest.raises(InputError, match="12 hexadecimal digits"):
            lessons.read(lesson_id)
    with pytest.raises(InputError, match="there is no lesson"):
        lessons.read("0" * 12)
    (tmp_path / "lessons" / lesson.id / "lesson.json").write_text("{")
    assert [one.id for one in lessons.all()] == [other.id]
    with pytest.raises(ConfigurationError, match=r"lesson\.json"):
        lessons.read(lesson.id)


def test_space_is_bound_by_all_lessons_and_by_the_disk(lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = begin(lessons)
    lessons.add(lesson.id, "a.png", PNG)
    assert lessons.problem(1000, 0) is None
    assert "the disk is short" in str(lessons.problem(0, 10**18))
    monkeypatch.setattr(module, "LIMIT_BYTES", 100)
    assert "as much as they may" in str(lessons.problem(93, 0))
    assert lessons.problem(92, 0) is None


def test_there_are_not_any_number_of_lessons(lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LESSONS", 1)
    lesson = begin(lessons)
    with pytest.raises(InputError, match="remove one that is over"):
        begin(lessons)
    lessons.remove(lesson.id)
    assert lessons.all() == []
    begin(lessons)
