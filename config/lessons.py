"""Lessons: a product taught anew at the line, from its images to a bundle that is released. A folder each.

home/lessons/detectors.json           what there is to learn with here
home/lessons/ID/lesson.json           what it is about, how far it is, what was chosen
home/lessons/ID/images/train/good/    good images, PNG, every pixel as the detector will see it
home/lessons/ID/images/test/CLASS/    images of defects that people picked
home/lessons/ID/out/                  bundle, found.json, reports and their pictures
runtime/lesson-ID.json                how far the work in hand is; gone with the power

The console changes a lesson as people want it, the teacher (`deploy/teacher`) as its work goes on; each change holds
the folder's lock. What may follow what is told by `_FOLLOWS`.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from config import files
from config.errors import ConfigurationError, InputError
from config.messages import Judgement

MOST_LESSONS = 50  # at once; one that is over is removed by a person
MOST_IMAGES = 2000
LIMIT_BYTES = 20_000_000_000  # all lessons together
SUFFIX = ".png"
_ID = re.compile(r"[0-9a-f]{12}")
_IMAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}\.png")
_CLASS = re.compile(r"\w[\w-]{0,63}")


class State(StrEnum):
    """How far a lesson is."""

    COLLECTING = "COLLECTING"  # good images come from the camera
    READY = "READY"  # to be checked or fitted
    CHECKING = "CHECKING"  # for images that are unlike the others
    FITTING = "FITTING"
    FITTED = "FITTED"  # there is a bundle
    SHADOW = "SHADOW"  # the bundle judges beside the one that counts
    RELEASING = "RELEASING"  # the supervisor puts it in force, or
    RETURNING = "RETURNING"  # what was in force before
    RELEASED = "RELEASED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"  # `detail` says why


_FOLLOWS: dict[State, frozenset[State]] = {
    State.COLLECTING: frozenset({State.READY, State.FAILED, State.CANCELLED}),
    State.READY: frozenset({State.COLLECTING, State.CHECKING, State.FITTING, State.CANCELLED}),
    State.CHECKING: frozenset({State.READY, State.FAILED, State.CANCELLED}),
    State.FITTING: frozenset({State.READY, State.FITTED, State.FAILED, State.CANCELLED}),
    State.FITTED: frozenset(
        {State.COLLECTING, State.CHECKING, State.FITTING, State.SHADOW, State.RELEASING, State.CANCELLED}
    ),
    State.SHADOW: frozenset({State.FITTED, State.RELEASING, State.FAILED, State.CANCELLED}),
    State.RELEASING: frozenset({State.RELEASED, State.FITTED}),
    State.RETURNING: frozenset({State.RELEASED, State.FITTED}),
    State.RELEASED: frozenset({State.RETURNING}),
    State.CANCELLED: frozenset(),
    State.FAILED: frozenset({State.COLLECTING, State.CHECKING, State.FITTING, State.CANCELLED}),
}
WORKING = frozenset({State.COLLECTING, State.CHECKING, State.FITTING, State.SHADOW})  # the teacher has to do
SWITCHING = frozenset({State.RELEASING, State.RETURNING})  # the supervisor has to do


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Collecting(_Model):
    """Which parts are taken as good: `count` images of parts with these verdicts, of one part in `every_parts`."""

    count: int = Field(default=100, ge=1, le=MOST_IMAGES)
    verdicts: frozenset[Judgement] = Field(default=frozenset({Judgement.PASS}), min_length=1)
    every_parts: int = Field(default=1, ge=1, le=10_000)


class Fitting(_Model):
    """What is learnt with; `alpha` is the false-reject rate that is asked for."""

    detector: str = Field(default="patchcore", pattern=r"^[a-z][a-z0-9_]{0,63}$")
    options: dict[str, JsonValue] = Field(default_factory=dict, max_length=50)
    alpha: float = Field(default=0.01, gt=0, lt=0.5)


class Shadowing(_Model):
    """How a bundle is tried beside the line: on one part in `every_parts`, until `most` have been compared."""

    every_parts: int = Field(default=5, ge=1, le=10_000)
    most: int = Field(default=500, ge=10, le=20_000)


class Release(_Model):
    """What a bundle is released with, and what was in force before: that is how to go back."""

    review_above: float
    reject_above: float
    by: str
    before: str  # digest of the recipe's content
    before_bundles: dict[str, Path]
    version: int | None = None  # of the recipe, once it is in force

    @model_validator(mode="after")
    def _limits_make_sense(self) -> Self:
        if self.review_above > self.reject_above:
            raise ValueError(f"review_above {self.review_above} must not exceed reject_above {self.reject_above}")
        return self


class Lesson(_Model):
    """One lesson. `attempt` counts the works that were begun, so that one is never taken for another."""

    id: str
    product: str
    recipe: str
    camera: str
    by: str
    began_at: datetime
    state: State
    since: datetime  # of the state
    attempt: int = 0
    detail: str = ""
    collecting: Collecting = Collecting()
    collected: int = 0  # good images
    shed: int = 0  # parts that were wanted and whose pixels were not kept whole
    left_out: tuple[str, ...] = ()
    fitting: Fitting = Fitting()
    bundle_digest: str | None = None
    shadowing: Shadowing = Shadowing()
    shadow_since: datetime | None = None
    release: Release | None = None

    def to(self, state: State, at: datetime, **changes: object) -> Lesson:
        """Return the lesson in another state; raise InputError where that does not follow."""
        if state not in _FOLLOWS[self.state]:
            able = ", ".join(sorted(_FOLLOWS[self.state])) or "nothing"
            raise InputError(f"lesson {self.id}: is {self.state}, which {state} does not follow: {able} may")
        begun = self.attempt + (state in WORKING)
        return self.model_copy(update={"detail": "", **changes, "state": state, "since": at, "attempt": begun})


class Progress(_Model):
    """How far the work of `attempt` is."""

    attempt: int
    stage: str
    done: int
    total: int


class Lessons:
    """The lessons of one station."""

    def __init__(self, home: Path, runtime: Path) -> None:
        """Name the state folder and the runtime folder; nothing is made yet."""
        self.folder = home / "lessons"
        self._runtime = runtime

    @property
    def detectors(self) -> Path:
        """Where it stands what there is to learn with here."""
        return self.folder / "detectors.json"

    def all(self) -> list[Lesson]:
        """Return the lessons, the newest first; one that cannot be read is left out."""
        found = []
        for path in self.folder.glob("*/lesson.json"):
            if not _ID.fullmatch(path.parent.name):
                continue  # it is being removed
            try:
                found.append(files.read(path, Lesson))
            except ConfigurationError:
                continue
        return sorted(found, key=lambda lesson: lesson.began_at, reverse=True)

    def read(self, lesson_id: str) -> Lesson:
        """Return a lesson; raise InputError where there is none, ConfigurationError where it is damaged."""
        path = self.path(lesson_id) / "lesson.json"
        if not path.is_file():
            raise InputError(f"there is no lesson {lesson_id}")
        return files.read(path, Lesson)

    def begin(self, make: Callable[[str], Lesson]) -> Lesson:
        """Keep the lesson that `make` makes of a new id; raise InputError where there are too many."""
        if len(self.all()) >= MOST_LESSONS:
            raise InputError(f"there are {MOST_LESSONS} lessons: remove one that is over")
        lesson = make(secrets.token_hex(6))
        self.good(lesson.id).mkdir(parents=True)
        (self.path(lesson.id) / "out").mkdir()
        self._write(lesson)
        return lesson

    @contextmanager
    def changing(self, lesson_id: str) -> Iterator[Callable[[Lesson], None]]:
        """Hold a lesson's lock, and give what keeps it in another form; raise as `read` does."""
        self.read(lesson_id)
        descriptor = os.open(self.path(lesson_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self._write
        finally:
            os.close(descriptor)

    def change(self, lesson_id: str, what: Callable[[Lesson], Lesson]) -> Lesson:
        """Change a lesson under its lock, and return it as it is then."""
        with self.changing(lesson_id) as write:
            lesson = what(self.read(lesson_id))
            write(lesson)
        return lesson

    def remove(self, lesson_id: str) -> None:
        """Remove a lesson with its images."""
        self.read(lesson_id)
        gone = self.path(lesson_id).with_name(f".{lesson_id}")  # a work that is just ending may still write into it
        self.path(lesson_id).rename(gone)
        shutil.rmtree(gone)
        self._progress(lesson_id).unlink(missing_ok=True)

    def path(self, lesson_id: str) -> Path:
        """Return a lesson's folder; raise InputError for what is no id."""
        if not _ID.fullmatch(lesson_id):
            raise InputError(f"lesson {lesson_id!r:.40}: an id has 12 hexadecimal digits")
        return self.folder / lesson_id

    def good(self, lesson_id: str) -> Path:
        """Return the folder of a lesson's good images."""
        return self.path(lesson_id) / "images" / "train" / "good"

    def images(self, lesson_id: str) -> list[str]:
        """Return the names of a lesson's good images, in their order."""
        return sorted(entry.name for entry in os.scandir(self.good(lesson_id)) if _IMAGE.fullmatch(entry.name))

    def defects(self, lesson_id: str) -> dict[str, list[str]]:
        """Return the names of a lesson's images of defects, by class."""
        folder = self.path(lesson_id) / "images" / "test"
        if not folder.is_dir():
            return {}
        return {
            kind.name: sorted(path.name for path in kind.iterdir() if _IMAGE.fullmatch(path.name))
            for kind in sorted(folder.iterdir())
        }

    def add(self, lesson_id: str, name: str, content: bytes, defect_class: str | None = None) -> bool:
        """Keep an image, PNG; False if it is there already. Raise InputError for a bound that it would pass."""
        if not _IMAGE.fullmatch(name):
            raise InputError(f"image {name!r:.140}: must be letters, digits, '.', '-' and '_', and end in {SUFFIX}")
        if defect_class is None:
            folder = self.good(lesson_id)
        elif _CLASS.fullmatch(defect_class) and defect_class.lower() != "good":
            folder = self.path(lesson_id) / "images" / "test" / defect_class
            folder.mkdir(parents=True, exist_ok=True)
        else:
            raise InputError(f"defect class {defect_class!r:.100}: must be letters, digits, '-' and '_'; not good")
        if (folder / name).exists():
            return False
        held = len(self.images(lesson_id)) + sum(map(len, self.defects(lesson_id).values()))
        if held >= MOST_IMAGES:
            raise InputError(f"lesson {lesson_id}: has {held} images, as many as it may")
        files.write(folder / name, content)
        return True

    def image(self, lesson_id: str, name: str) -> Path:
        """Return where a good image is; raise InputError where there is none."""
        path = self.good(lesson_id) / name
        if not _IMAGE.fullmatch(name) or not path.is_file():
            raise InputError(f"lesson {lesson_id}: there is no image {name!r:.140}")
        return path

    def problem(self, more_bytes: int, keep_free_bytes: int) -> str | None:
        """Return why `more_bytes` cannot be kept: the lessons' own bound, or a disk that is short; None if they can."""
        try:
            free_bytes = shutil.disk_usage(self.folder).free
            held_bytes = sum(path.stat().st_size for path in self.folder.glob("*/images/**/*.png"))
        except OSError as error:
            return f"{self.folder}: the disk does not answer: {error.strerror}"
        if free_bytes - more_bytes < keep_free_bytes:
            return f"the disk is short: {free_bytes / 1e6:.0f} MB are free, {keep_free_bytes / 1e6:.0f} MB must stay so"
        if held_bytes + more_bytes > LIMIT_BYTES:
            return f"the lessons hold {held_bytes / 1e9:.1f} GB of images, as much as they may: remove one that is over"
        return None

    def progress(self, lesson: Lesson) -> Progress | None:
        """Return how far the work in hand is; None if nothing is known of it."""
        try:
            found = files.read(self._progress(lesson.id), Progress)
        except ConfigurationError:
            return None
        return found if found.attempt == lesson.attempt else None

    def tell(self, lesson_id: str, progress: Progress) -> None:
        """Say how far the work in hand is."""
        path = self._progress(lesson_id)
        temporary = path.with_suffix(".new")
        temporary.write_text(progress.model_dump_json(), encoding="utf-8")
        temporary.replace(path)

    def _progress(self, lesson_id: str) -> Path:
        return self._runtime / f"lesson-{lesson_id}.json"

    def _write(self, lesson: Lesson) -> None:
        files.write(self.path(lesson.id) / "lesson.json", lesson.model_dump_json(indent=2).encode())
