"""What parts are judged by in a replay: recipes and bundles of then, out of the library, or others in their place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from config import recipe as recipes
from config.errors import BundleError, ConfigurationError, InputError
from config.recipe import Recipe, ViewRecipe
from decision.rules import Rules
from deploy.replay.findings import Obstacle
from inference.bundle import Bundle
from inference.engine import Engine, Precision
from inference.keys import TrustStore
from storage.library import Library
from storage.query.answers import Part, ViewDetail

_ENGINES_KEPT = 8
_RULES_KEPT = 64

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class ObstacleError(Exception):
    """A part cannot be replayed."""

    def __init__(self, obstacle: Obstacle, detail: str) -> None:
        super().__init__(detail)
        self.obstacle = obstacle


@dataclass(frozen=True)
class Others:
    """What to judge by instead of what was judged by then: a recipe, a bundle, or both.

    A bundle alone brings its own thresholds, those of its calibration: a recipe's are in the score of the bundle that
    they were made for, so its zones keep their places and areas but not their thresholds. Where `camera` is named, the
    bundle takes the place of that camera's alone.
    """

    recipe: Recipe | None = None
    bundle: Bundle | None = None
    camera: str | None = None

    @classmethod
    def read(cls, recipe: Path | None, bundle: Path | None, camera: str | None, trust: TrustStore) -> Others:
        """Read the files that are named; raise ConfigurationError or BundleError for what is wrong with them."""
        opened = Bundle.open(bundle, trust) if bundle else None
        wanted = recipes.read(recipe) if recipe else None
        for name, view in (wanted.views if wanted else {}).items():
            if opened and camera in {None, name} and view.bundle_digest not in {None, opened.digest}:
                raise ConfigurationError(
                    f"{recipe}: views.{name} wants {view.bundle_digest}, {bundle} is {opened.digest}"
                )
        return cls(wanted, opened, camera)

    def __bool__(self) -> bool:
        return self.recipe is not None or self.bundle is not None


@dataclass(frozen=True)
class Judge:
    """What one part is judged by: the rules, and an engine for each of their views."""

    rules: Rules
    engines: dict[str, Engine]


class Judges:
    """Find for each part what it is judged by; loaded engines and rules are kept for the next part, a few of them."""

    def __init__(
        self, library: Library, trust: TrustStore, others: Others, threads: int, device: str, precision: Precision
    ) -> None:
        self._library = library
        self._trust = trust
        self._others = others
        self._threads = threads
        self._device = device
        self._precision = precision
        self._engines: _Recent[str, Engine] = _Recent(_ENGINES_KEPT)
        self._rules: _Recent[str, Rules] = _Recent(_RULES_KEPT)
        self._other_rules = Rules.load(others.recipe) if others.recipe else None

    def of(self, part: Part, recipe_digest: str | None) -> Judge:
        """Return what a part is judged by; raise ObstacleError where that cannot be had."""
        rules = self._rules_of(part, recipe_digest)
        details = {detail.camera: detail for detail in part.details}
        engines = {
            camera: self._engine_of(camera, view, details.get(camera)) for camera, view in rules.recipe.views.items()
        }
        bundle = self._others.bundle
        if bundle is None:
            return Judge(rules, engines)
        views = {
            camera: rebased(view, bundle, keep_thresholds=self._others.recipe is not None)
            if engines[camera].digest == bundle.digest and self._others.camera in {None, camera}
            else view
            for camera, view in rules.recipe.views.items()
        }
        recipe = rules.recipe.model_copy(update={"views": views})
        return Judge(Rules(recipe, rules.digest, rules.zones), engines)

    def _rules_of(self, part: Part, digest: str | None) -> Rules:
        if self._other_rules is not None:
            if self._other_rules.recipe.product != part.product:
                told = f"the recipe is for {self._other_rules.recipe.product!r}, the part is {part.product!r}"
                raise ObstacleError(Obstacle.OTHER_PRODUCT, told)
            return self._other_rules
        if digest is None:
            raise ObstacleError(Obstacle.NO_RECIPE, "the station knew no recipe for it")
        try:
            return self._rules.get(digest, lambda: Rules.load(self._library.recipe(digest)))
        except InputError as error:
            raise ObstacleError(Obstacle.NO_RECIPE, str(error)) from error

    def _engine_of(self, camera: str, view: ViewRecipe, then: ViewDetail | None) -> Engine:
        others = self._others
        if others.bundle is not None and others.camera in {None, camera}:
            bundle = others.bundle
            return self._engines.get(bundle.digest, lambda: self._load(bundle))
        if others.recipe is not None:
            return self._engines.get(str(view.bundle), lambda: self._open(view.bundle, view.bundle_digest))
        digest = (then.bundle_digest if then else None) or view.bundle_digest
        if digest is None:
            raise ObstacleError(Obstacle.NO_BUNDLE, f"{camera}: the view had no score, and its recipe names no bundle")
        return self._engines.get(digest, lambda: self._borrow(digest))

    def _borrow(self, digest: str) -> Engine:
        try:
            path = self._library.bundle(digest)
        except InputError as error:
            raise ObstacleError(Obstacle.NO_BUNDLE, str(error)) from error
        try:
            return self._open(path, digest)
        except BundleError as error:
            raise ObstacleError(Obstacle.BUNDLE_REFUSED, str(error)) from error

    def _open(self, path: Path, digest: str | None) -> Engine:
        bundle = Bundle.open(path, self._trust)
        if digest not in {None, bundle.digest}:
            raise BundleError(f"{path}: is {bundle.digest}, wanted was {digest}")
        return self._load(bundle)

    def _load(self, bundle: Bundle) -> Engine:
        engine = Engine(bundle, self._threads, self._device, self._precision)
        engine.check_golden()
        return engine


def rebased(view: ViewRecipe, bundle: Bundle, *, keep_thresholds: bool) -> ViewRecipe:
    """Return a view as another bundle would judge it: by the thresholds of its own calibration, unless they are kept.

    A score means nothing to another bundle: limits of zones go with the thresholds, their places and areas stay.
    """
    update: dict[str, object] = {"bundle_digest": bundle.digest}
    if not keep_thresholds:
        calibration = bundle.manifest.calibration
        update |= {"review_above": calibration.review_above, "reject_above": calibration.reject_above}
        update["zones"] = tuple(
            zone.model_copy(update={"review_above": None, "reject_above": None}) for zone in view.zones
        )
    return view.model_copy(update=update)


class _Recent(Generic[Key, Made]):
    """Things that are dear to make, the last few that were asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[Key, Made] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Made]) -> Made:
        if key not in self._made:
            self._made[key] = make()
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]
