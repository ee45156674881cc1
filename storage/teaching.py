"""What people do with lessons: each change is one transaction with its entry in the audit trail.

The works themselves are the teacher's (`deploy/teacher`); it sees what is wanted in the lesson's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError
from sqlalchemy import URL, select

from config import files, recipe
from config.errors import ImageLostError, InputError
from config.extras import UNDER_WAY, Fetch, Fetching
from config.lessons import SWITCHING, WORKING, Collecting, Fitting, Lesson, Lessons, Release, Shadowing, State
from storage import uploads
from storage.ledger import Ledger
from storage.schema import pick

if TYPE_CHECKING:
    from config.home import Home
    from storage.query.service import QueryService

_ADDABLE = frozenset({State.COLLECTING, State.READY, State.FITTED, State.FAILED})
_UPLOAD_FREE_BYTES = 500_000_000  # of the disk stay free of what people bring


class Picked(NamedTuple):
    """What came of the picks: images that are among the lesson's now, and why others are not."""

    good: int
    defects: int
    known: int
    not_exact: int  # no picture with every pixel was kept of it


class Teaching:
    """The lessons of the station in `home`, and their audit trail at `url`. Safe to use from several threads.

    Every change raises InputError for what does not follow or makes no sense, and StoreError where the database does
    not answer: then nothing was changed.
    """

    def __init__(self, url: URL | str, home: Home) -> None:
        """Remember where things are; the first change connects."""
        self._ledger = Ledger(url, home.path, "teaching")
        self._home = home
        self.lessons = Lessons(home.path, home.runtime)
        self.fetching = Fetching(home.path)

    def close(self) -> None:
        """Close the connections."""
        self._ledger.close()

    def fetch(self, by: str) -> Fetch:
        """Have the teacher fetch what learning needs."""
        present = self.fetching.read()
        if present is not None and present.step in UNDER_WAY:
            raise InputError(f"{present.by} wanted it at {present.at:%H:%M} UTC: it is on its way")
        wanted = Fetch(by=by, at=datetime.now(UTC))
        with self._ledger.changing() as change:
            self.fetching.tell(wanted)
            change.enter(by, "learning.fetched", "learning", None, None)
        return wanted

    def begin(self, by: str, recipe_name: str, camera: str, collecting: Collecting) -> Lesson:
        """Begin a lesson for one camera's view of a recipe, and collect."""
        recipes = self._home.read_recipes()
        if recipe_name not in recipes:
            raise InputError(f"recipe {recipe_name!r:.80}: there is none: the station has {', '.join(recipes)}")
        if camera not in recipes[recipe_name].views:
            views = ", ".join(recipes[recipe_name].views)
            raise InputError(f"camera {camera!r:.80}: recipe {recipe_name} has no such view, but {views}")
        now = datetime.now(UTC)

        def made(lesson_id: str) -> Lesson:
            return Lesson(
                id=lesson_id,
                product=recipes[recipe_name].product,
                recipe=recipe_name,
                camera=camera,
                by=by,
                began_at=now,
                state=State.COLLECTING,
                since=now,
                attempt=1,
                collecting=collecting,
            )

        with self._ledger.changing() as change:
            lesson = self.lessons.begin(made)
            change.enter(by, "lesson.begun", lesson.id, None, _said(lesson))
        return lesson

    def collect(self, by: str, lesson_id: str, collecting: Collecting) -> Lesson:
        """Collect more, until there are `collecting.count` in all."""
        return self._to(by, lesson_id, State.COLLECTING, "lesson.collected", collecting=collecting)

    def check(self, by: str, lesson_id: str) -> Lesson:
        """Have the images checked."""
        return self._to(by, lesson_id, State.CHECKING, "lesson.checked")

    def fit(self, by: str, lesson_id: str, fitting: Fitting) -> Lesson:
        """Have a bundle fitted."""
        return self._to(
            by, lesson_id, State.FITTING, "lesson.fitted", fitting=fitting, bundle_digest=None, shadow_since=None
        )

    def stop(self, by: str, lesson_id: str) -> Lesson:
        """End the work in hand; what was collected, checked or compared stays."""

        def stopped(lesson: Lesson) -> Lesson:
            if lesson.state not in WORKING:
                raise InputError(f"lesson {lesson.id}: is {lesson.state}: there is nothing to stop")
            after = State.FITTED if lesson.state is State.SHADOW else State.READY
            collected = len(self.lessons.images(lesson.id))
            return lesson.to(after, datetime.now(UTC), detail="stopped", collected=collected)

        return self._change(by, lesson_id, "lesson.stopped", stopped)

    def shadow(self, by: str, lesson_id: str, shadowing: Shadowing) -> Lesson:
        """Have the bundle judge beside the one that counts."""
        now = datetime.now(UTC)
        return self._to(by, lesson_id, State.SHADOW, "lesson.shadowed", shadowing=shadowing, shadow_since=now)

    def release(self, by: str, lesson_id: str, bundle_digest: str, review_above: float, reject_above: float) -> Lesson:
        """Have the bundle judge from now on, by these thresholds; `bundle_digest` is the one that was seen.

        The supervisor does it, or says in the lesson why it cannot be.
        """
        recipes = self._home.read_recipes()

        def released(lesson: Lesson) -> Lesson:
            if lesson.bundle_digest is None or lesson.bundle_digest != bundle_digest:
                raise InputError(f"lesson {lesson.id}: its bundle is {lesson.bundle_digest}, not {bundle_digest!r:.80}")
            present = recipes[lesson.recipe]
            try:
                release = Release(
                    review_above=review_above,
                    reject_above=reject_above,
                    by=by,
                    before=recipe.digest(recipe.content(present)),
                    before_bundles={camera: view.bundle for camera, view in present.views.items()},
                )
            except ValidationError as error:
                raise InputError(f"release: {files.explain(error)}") from error
            return lesson.to(State.RELEASING, datetime.now(UTC), release=release)

        return self._change(by, lesson_id, "lesson.released", released)

    def bring_back(self, by: str, lesson_id: str) -> Lesson:
        """Have what was in force before this lesson's release judge again, under its own version."""

        def returned(lesson: Lesson) -> Lesson:
            return lesson.to(
                State.RETURNING,
                datetime.now(UTC),
                release=lesson.release and lesson.release.model_copy(update={"by": by}),
            )

        return self._change(by, lesson_id, "lesson.brought_back", returned)

    def cancel(self, by: str, lesson_id: str) -> Lesson:
        """Give a lesson up."""
        return self._to(by, lesson_id, State.CANCELLED, "lesson.cancelled")

    def leave_out(self, by: str, lesson_id: str, names: Iterable[str], *, out: bool) -> Lesson:
        """Leave images out of what is learnt, or take them in again."""
        named = frozenset(names)
        for name in named:
            self.lessons.image(lesson_id, name)

        def changed(lesson: Lesson) -> Lesson:
            _insist_addable(lesson)
            left_out = frozenset(lesson.left_out) | named if out else frozenset(lesson.left_out) - named
            return lesson.model_copy(update={"left_out": tuple(sorted(left_out))})

        images = {"images": sorted(named)[:200], "out": out}
        return self._change(by, lesson_id, "lesson.left_out", changed, images)

    def upload(self, by: str, lesson_id: str, called: str, content: bytes, defect_class: str | None) -> uploads.Upload:
        """Add an image that a person brings; of the size and colours of those that are there."""
        taken = uploads.take(content, called)
        shape = (taken.height_px, taken.width_px, taken.channels)
        there = self._shape(lesson_id)
        if there is not None and there != shape:
            raise InputError(f"{called!r:.100}: is {_shape(shape)}: the other images are {_shape(there)}")
        if why := self.lessons.problem(len(taken.content), _UPLOAD_FREE_BYTES):
            raise InputError(f"{called!r:.100}: {why}")

        def added(lesson: Lesson) -> Lesson:
            _insist_addable(lesson)
            if not self.lessons.add(lesson_id, taken.name, taken.content, defect_class):
                raise InputError(f"{called!r:.100}: the same image is there already")
            return lesson.model_copy(update={"collected": len(self.lessons.images(lesson_id))})

        said = {"image": taken.name, "called": called[:100], "defect_class": defect_class}
        self._change(by, lesson_id, "lesson.image_added", added, said)
        return taken

    def take_picks(self, by: str, lesson_id: str, query: QueryService) -> Picked:
        """Add the images that people have sent to the training set, good ones and defects."""
        lesson = self.lessons.read(lesson_id)
        _insist_addable(lesson)
        wanted = select(pick).where(pick.c.product == lesson.product, pick.c.camera == lesson.camera)
        with self._ledger.reading() as connection:
            rows = connection.execute(wanted.order_by(pick.c.picked_at.desc()).limit(2000)).all()
        counts = dict.fromkeys(Picked._fields, 0)
        shape = self._shape(lesson_id)
        for row in rows:
            try:
                content = query.image(row.part_id, lesson.camera, "image")
            except ImageLostError:
                content = None
            try:
                found = uploads.png_shape(content or b"")
            except InputError:
                found = None
            if content is None or found is None or shape not in {None, found}:
                counts["not_exact"] += 1
                continue
            if why := self.lessons.problem(len(content), _UPLOAD_FREE_BYTES):
                raise InputError(why)
            name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in row.part_id)[-100:]
            defect_class = None if row.good else row.defect_class or "defect"
            added = self.lessons.add(lesson_id, f"{name}.png", content, defect_class)
            counts["known" if not added else "good" if row.good else "defects"] += 1
        picked = Picked(**counts)

        def taken(lesson: Lesson) -> Lesson:
            return lesson.model_copy(update={"collected": len(self.lessons.images(lesson_id))})

        self._change(by, lesson_id, "lesson.picks_taken", taken, picked._asdict())
        return picked

    def remove(self, by: str, lesson_id: str) -> None:
        """Remove a lesson that nobody works on, with its images; a bundle that was released stays."""
        lesson = self.lessons.read(lesson_id)
        if lesson.state in WORKING | SWITCHING:
            raise InputError(f"lesson {lesson_id}: is {lesson.state}: that has to end first")
        with self._ledger.changing() as change:
            change.enter(by, "lesson.removed", lesson_id, _said(lesson), None)
            self.lessons.remove(lesson_id)

    def _to(self, by: str, lesson_id: str, state: State, action: str, **changes: object) -> Lesson:
        return self._change(by, lesson_id, action, lambda lesson: lesson.to(state, datetime.now(UTC), **changes))

    def _change(
        self,
        by: str,
        lesson_id: str,
        action: str,
        what: Callable[[Lesson], Lesson],
        more: Mapping[str, object] | None = None,
    ) -> Lesson:
        """Change a lesson under its lock; the entry is committed once the lesson's file is written."""
        self.lessons.read(lesson_id)
        with self._ledger.changing() as change, self.lessons.changing(lesson_id) as write:
            before = self.lessons.read(lesson_id)
            after = what(before)
            change.enter(by, action, lesson_id, _said(before), {**_said(after), **(more or {})})
            write(after)
        return after

    def _shape(self, lesson_id: str) -> tuple[int, int, int] | None:
        """Return height, width and channels of the lesson's images; None while there are none."""
        names = self.lessons.images(lesson_id)
        if not names:
            return None
        with self.lessons.image(lesson_id, names[0]).open("rb") as file:
            return uploads.png_shape(file.read(64))


def _insist_addable(lesson: Lesson) -> None:
    if lesson.state not in _ADDABLE:
        raise InputError(f"lesson {lesson.id}: is {lesson.state}: its images are not to be changed now")


def _said(lesson: Lesson) -> dict[str, object]:
    """Return what the audit trail says of a lesson."""
    kept = {"product", "recipe", "camera", "state", "collected", "bundle_digest", "release"}
    said = lesson.model_dump(mode="json", include=kept)
    match lesson.state:
        case State.COLLECTING:
            said["collecting"] = lesson.collecting.model_dump(mode="json")
        case State.FITTING:
            said["fitting"] = lesson.fitting.model_dump(mode="json")
        case State.SHADOW:
            said["shadowing"] = lesson.shadowing.model_dump(mode="json")
    said["left_out"] = len(lesson.left_out)
    return said


def _shape(shape: tuple[int, int, int]) -> str:
    height_px, width_px, channels = shape
    return f"{width_px} x {height_px} px, {'grey' if channels == 1 else 'in colour'}"
