"""A lesson's bundle comes into force: the recipe's next version, while the line runs, whole or not at all.

    lesson --RELEASING--> bundle into HOME/bundles --Adopt--> decision --Job--> cameras --Bundles--> workers
    lesson <--RELEASED, or back and why-- Recipes <-- decision <--Holding: open, or refused and why--┘

No process is stopped: the workers open the bundle beside the one in force, then decision takes the version from one
part on. What any worker cannot open changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from config import activation, files, recipe
from config.errors import AndonError, InputError, StoreError
from config.lessons import SWITCHING, Lesson, Lessons, Release, State
from config.messages import Adopt
from decision.rules import Rules
from deploy import registry, stations
from inference.bundle import Bundle
from inference.keys import TrustStore

if TYPE_CHECKING:
    from pathlib import Path

    from config.home import Home
    from config.recipe import Recipe
    from deploy.logbook import Logbook

_LOOK_NS = 500_000_000
_ANSWER_NS = 70_000_000_000  # decision gives workers 60 s to open a bundle


@dataclass
class _Asked:
    """What the decision stage was asked for."""

    lesson: Lesson
    wanted: Recipe
    question: activation.Adopting
    until_ns: int


class Releasing:
    """Do what lessons wait for that wait for another version of their recipe."""

    def __init__(self, home: Home, url: str, logbook: Logbook) -> None:
        """`url` is the database's, for the library."""
        self._home = home
        self._url = url
        self._logbook = logbook
        self._lessons = Lessons(home.path, home.runtime)
        self._due_ns = 0
        self._asked: _Asked | None = None

    def look(self, now_ns: int) -> None:
        """Look twice a second whether something is to be released, and do it."""
        if now_ns < self._due_ns:
            return
        if self._asked is not None:
            self._conclude(self._asked, now_ns)
        waiting = [lesson for lesson in self._lessons.all() if lesson.state in SWITCHING]
        if waiting and self._asked is None:
            self._begin(waiting[-1])  # who came first is served first
        self._due_ns = time.monotonic_ns() + _LOOK_NS

    def _begin(self, lesson: Lesson) -> None:
        """Ask the decision stage for the version that the lesson waits for."""
        release = lesson.release
        try:
            if release is None:
                raise InputError(f"lesson {lesson.id}: says nothing of what is to be released")
            before = self._home.read_recipes()[lesson.recipe]
            if lesson.state is State.RELEASING:
                self._keep_all(before)
                wanted = self._new(lesson, release, before)
            else:
                wanted = self._old(release, before)
            content = recipe.content(wanted)
            based_on = recipe.digest(recipe.content(before))
            self._logbook.say(f"{lesson.recipe}: version {wanted.version} is to come into force, by {release.by}")
            question = Adopt(recipe=lesson.recipe, based_on=based_on, by=release.by)
            asked = activation.Adopting(self._home, question, content)
        except (AndonError, OSError, KeyError) as error:
            self._refuse(lesson, str(error))
            return
        self._asked = _Asked(lesson, wanted, asked, time.monotonic_ns() + _ANSWER_NS)

    def _conclude(self, asked: _Asked, now_ns: int) -> None:
        """Tell the lesson what became of it, once that is known."""
        lesson, wanted = asked.lesson, asked.wanted
        try:
            answer = asked.question.answer()
            problem = answer.problem if answer else None
            if answer is None and now_ns < asked.until_ns:
                return
            if answer is None:  # the decision stage may have ended amid it: its disk says what counts
                found = self._home.read_recipes()[lesson.recipe]
                if recipe.digest(recipe.content(found)) != recipe.digest(recipe.content(wanted)):
                    problem = "the decision stage did not answer"
        except (AndonError, OSError) as error:
            problem = str(error)
        asked.question.close()
        self._asked = None
        if problem is not None:
            self._refuse(lesson, problem)
            return
        if lesson.state is State.RELEASING and lesson.release:
            update = lesson.release.model_copy(update={"version": wanted.version})
            self._settle(lesson, State.RELEASED, release=update)
        else:
            self._settle(lesson, State.FITTED, detail=f"version {wanted.version} is in force again", release=None)
        try:
            registry.register(self._home, self._url)
        except StoreError as error:  # as at the next start; until then a replay has to wait
            self._logbook.say(f"the library has to wait for a bundle: {error}", "warning")

    def _refuse(self, lesson: Lesson, why: str) -> None:
        self._logbook.say(f"lesson {lesson.id}: not in force: {why}", "warning")
        back = State.FITTED if lesson.state is State.RELEASING else State.RELEASED
        self._settle(lesson, back, detail=f"not in force: {why}")

    def _new(self, lesson: Lesson, release: Release, before: Recipe) -> Recipe:
        """Return the recipe's next version, its bundle in the station's folder; raise for what is wrong with it."""
        kept = self._kept(lesson)
        view = before.views[lesson.camera].model_copy(
            update={
                "bundle": kept,
                "bundle_digest": lesson.bundle_digest,
                "review_above": release.review_above,
                "reject_above": release.reject_above,
                "zones": tuple(
                    zone.model_copy(update={"review_above": None, "reject_above": None})
                    for zone in before.views[lesson.camera].zones
                ),
            }
        )
        versions = self._home.versions()
        highest = max([before.version, *versions.known(lesson.recipe).values()])
        views = {**before.views, lesson.camera: view}
        wanted = before.model_copy(update={"views": views, "version": highest + 1})
        found = versions.copy(wanted)
        Rules.load(found)
        return found

    def _kept(self, lesson: Lesson) -> Path:
        """Return where the station keeps the lesson's bundle; raise BundleError unless it is the one that was tried."""
        made = self._lessons.path(lesson.id) / "out" / "bundle.andon"
        bundle = Bundle.open(made, TrustStore.load(extra=stations.DEMO_KEYS))
        if bundle.digest != lesson.bundle_digest:
            raise InputError(f"{made}: is {bundle.digest}, the lesson's is {lesson.bundle_digest}")
        before = Bundle.open(
            self._home.read_recipes()[lesson.recipe].views[lesson.camera].bundle,
            TrustStore.load(extra=stations.DEMO_KEYS),
        )
        if bundle.manifest.pixel_format is not before.manifest.pixel_format:
            raise InputError(
                f"{bundle.title}: takes {bundle.manifest.pixel_format}, the camera gives {before.manifest.pixel_format}"
            )
        return self._keep(made, bundle)

    def _keep(self, path: Path, bundle: Bundle) -> Path:
        """Put a bundle where workers find it by its digest."""
        known = self._home.bundle(bundle.digest)
        if known is not None and known.read_bytes() == path.read_bytes():
            return known
        kept = self._home.path / "bundles" / f"{bundle.manifest.name}-{bundle.digest.removeprefix('sha256:')}.andon"
        kept.parent.mkdir(exist_ok=True)
        files.write(kept, path.read_bytes())
        return kept

    def _keep_all(self, before: Recipe) -> None:
        """Keep the bundles in force as well: to go back, and for a worker that dies amid the change."""
        for camera, bundle in stations.bundles_of(before, TrustStore.load(extra=stations.DEMO_KEYS)).items():
            if before.views[camera].bundle_digest is None:
                raise InputError(
                    f"views.{camera}.bundle_digest: the recipe names none: write {bundle.digest} into its file, so "
                    "that parts before and after the change can be told apart"
                )
            self._keep(before.views[camera].bundle, bundle)

    def _old(self, release: Release, before: Recipe) -> Recipe:
        """Return the version that was in force before the release; raise where its bundles are gone."""
        found = self._home.versions().recipe(release.before)
        views = {
            camera: view.model_copy(update={"bundle": release.before_bundles.get(camera, before.views[camera].bundle)})
            for camera, view in found.views.items()
        }
        old = found.model_copy(update={"views": views})
        for camera, bundle in stations.bundles_of(old, TrustStore.load(extra=stations.DEMO_KEYS)).items():
            self._keep(old.views[camera].bundle, bundle)
        return old

    def _settle(self, lesson: Lesson, state: State, **changes: object) -> None:
        self._lessons.change(lesson.id, lambda now: now.to(state, datetime.now(UTC), **changes))
