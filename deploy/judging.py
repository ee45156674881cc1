"""What the console may ask of the decision stage's rules: stored parts judged again by another recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from config.errors import BundleError
from config.log import logger
from config.messages import Judgement
from decision.hindsight import Hindsight, SeenPart, SeenView, Shape
from decision.rules import Rules
from deploy import stations
from inference.bundle import Bundle
from inference.keys import TrustStore
from storage.console.context import Told

if TYPE_CHECKING:
    from config.home import Home
    from config.recipe import Recipe
    from storage.query.recent import RecentPart


_WITHIN_S = 0.5  # of processor time for one draft


class Recalled:
    """Parts made ready."""

    def __init__(self, hindsight: Hindsight) -> None:
        self._hindsight = hindsight

    def judge(self, draft: Recipe) -> list[Told]:
        """Tell of each part what `draft` would have made of it; raise ConfigurationError where a picture is wrong."""
        found = self._hindsight.judge(Rules.load(draft), _WITHIN_S)
        return [Told(one.verdict, None if one.why is None else one.why.value) for one in found]


class Judging:
    """The rules of `decision/rules.py`, for the station of one state folder."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def check(self, draft: Recipe) -> None:
        """Raise ConfigurationError where nobody can judge by `draft`."""
        Rules.load(draft)

    def recall(self, parts: Sequence[RecentPart], then: Callable[[str], Recipe | None]) -> Recalled:
        """Make parts ready; `then` returns a recipe by the digest that a part was judged by, None where it is lost."""
        rules: dict[str, Rules | None] = {}
        for digest in {part.recipe_digest for part in parts} - {None}:
            if digest is not None:
                recipe = then(digest)
                rules[digest] = None if recipe is None else Rules.load(recipe)
        seen = [
            SeenPart(
                verdict=Judgement(part.verdict),
                reasons=part.reasons,
                views=tuple(
                    SeenView(view.camera, view.score, view.frame_shape, view.bundle_digest, view.anomaly_map)
                    for view in part.views
                ),
                then=None if part.recipe_digest is None else rules[part.recipe_digest],
            )
            for part in parts
        ]
        return Recalled(Hindsight(seen, self._shape_of))

    def _shape_of(self, digest: str) -> Shape | None:
        """Return the size of a bundle's maps, if one of the station's recipes names it."""
        trust = TrustStore.load(extra=stations.DEMO_KEYS)
        for recipe in self._home.read_recipes().values():
            for view in recipe.views.values():
                if view.bundle_digest not in {None, digest}:
                    continue
                try:
                    bundle = Bundle.open(view.bundle, trust)
                except BundleError as error:
                    logger().warning("no map of a bundle was kept, and it does not say their size", error=str(error))
                    continue
                if bundle.digest == digest:
                    return bundle.manifest.map_height, bundle.manifest.map_width
        return None
