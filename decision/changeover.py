"""Another recipe, or another version of one, between two parts: by the PLC, by a file, or by a person.

    PLC     --job-----------------------------------> Recipes --Job--> cameras, PLC
    file    --RecipeFiles: validated, on disk-------> Recipes
    person  --Activate, Adopt--> RecipeFiles: on disk--> Recipes --Recipes--> person

What a part is judged by is settled when its trigger comes (`decision/recipes.py`), so that nothing changes for a part
that is under way. Files and disks are the business of RecipeFiles' thread; the loop only takes what is ready.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from config import bus, events
from config.messages import Activate, Adopt, AnyMessage, Event, Holding
from config.versions import Choice
from decision.alarms import Alarms
from decision.opening import Openings
from decision.recipefiles import Adopted, Adoption, Chosen, RecipeFiles, Refused, Taken
from decision.recipes import Recipes
from decision.rules import Rules

if TYPE_CHECKING:
    from config.home import Home
    from config.station import Station

_SERVICE = "decision"
_REFUSED = "recipe_refused"
_NOBODY = b""  # waits for no answer


class Changeover:
    """Keep `recipes` as file, person and PLC want them; all methods are for the loop's thread."""

    def __init__(self, home: Home, station: Station, counters: Counter[str]) -> None:
        """Take up what is in force in this run; raise ConfigurationError for a recipe that cannot be judged by."""
        versions = home.versions()
        in_force = versions.begin(home.read_run().run_id, station)
        rules = {name: Rules.load(recipe) for name, recipe in in_force.items()}
        choice = versions.choice()
        active = choice.recipe if choice else station.recipe
        self.recipes = Recipes(rules, active, counters, epoch=time.time_ns())
        self._station = station
        self._files = RecipeFiles(station.recipes, versions, rules, home.bundle)
        self._openings = Openings()
        self._waiting: Adoption | None = None  # for workers to open what it names
        self._alarms = Alarms(station.station, counters, severity="WARNING")
        self._told: set[str] = set()  # recipes that the alarm, as it was told, is about
        self._happened: list[Event] = []

    def start(self, people: bus.Socket, announce: Callable[[], None]) -> None:
        """Begin to look at the files; answers to people go to the ROUTER `people`.

        `announce` is called when there is another recipe or version to be told of.
        """
        self._people, self._announce = people, announce
        self._files.start()

    def fileno(self) -> int:
        """Return the descriptor that can be read when files or disk have news."""
        return self._files.fileno()

    def close(self) -> None:
        """Look at nothing any more."""
        self._files.close()

    def from_person(self, message: AnyMessage, payload: list[bytes], peer: bytes) -> None:
        """Answer who asks for the recipes; who wants another one, or another version, once that is on disk."""
        if isinstance(message, Adopt):
            self._adopt(message, payload, peer)
            return
        if not isinstance(message, Activate):
            return
        problem = None if message.recipe is None else self.recipes.problem(message.recipe)
        if message.recipe is None or problem or message.recipe == self.recipes.active:
            bus.send(self._people, self.recipes.lines(problem), to=peer)
        else:
            self._files.choose(Choice(recipe=message.recipe, by=message.by, instead_of=self._station.recipe), peer)

    def activate(self, name: str, by: str) -> None:
        """Judge by this recipe from now on; the caller has seen that it may be chosen."""
        self._switch(name, by)
        self._files.choose(Choice(recipe=name, by=by, instead_of=self._station.recipe), _NOBODY)

    def from_files(self) -> None:
        """Take what is ready."""
        for news in self._files.news():
            match news:
                case Taken(name, rules):
                    self._tell("recipe_version", self.recipes.take(name, rules))
                    self._announce()
                case Refused(name, why):
                    self.recipes.refuse(name, why)
                case Chosen(choice, peer, failed) if peer != _NOBODY:
                    problem = failed or self.recipes.problem(choice.recipe)  # the PLC may have asked meanwhile
                    if not problem:
                        self._switch(choice.recipe, choice.by)
                    bus.send(self._people, self.recipes.lines(problem), to=peer)
                case Chosen():
                    pass
                case Adopted(wanted, rules, failed):
                    if rules is not None:
                        self._tell("recipe_version", f"{self.recipes.take(wanted.name, rules)}; by {wanted.by}")
                        self._announce()
                    if self._waiting is None:
                        self._want(frozenset(), time.monotonic_ns())
                    bus.send(self._people, self.recipes.lines(failed), to=wanted.peer)

    def from_worker(self, message: Holding, now_ns: int) -> None:
        """Take note of what a worker has open."""
        self._openings.take(message, now_ns)

    def tick(self, now_ns: int, workers: int) -> None:
        """Go on with what waits for the `workers` that cameras have; have bundles closed that judge no part."""
        if self.recipes.retire(now_ns):
            self._announce()
        wanted = self._waiting
        if wanted is None:
            return
        done, problem = self._openings.outcome(now_ns, workers)
        if not done:
            return
        self._waiting = None
        if problem is None:
            self._files.adopt(wanted)  # what it names stays wanted until it is in force
            return
        self._want(frozenset(), now_ns)
        self._tell("bundle_refused", f"{wanted.name}: {problem}; wanted by {wanted.by}")
        bus.send(self._people, self.recipes.lines(problem), to=wanted.peer)

    def events(self) -> list[Event]:
        """Return what people should know of, and did not yet."""
        news, self._happened = self._happened, []
        refused = self.recipes.refused
        if set(refused) != self._told:  # another file, too: that is told anew
            self._told = set(refused)
            news += self._alarms.update({})
        return news + self._alarms.update({_REFUSED: "; ".join(refused.values())} if refused else {})

    def _adopt(self, message: Adopt, payload: list[bytes], peer: bytes) -> None:
        problem = None
        if self.recipes.rules(message.recipe) is None:
            problem = f"there is no recipe {message.recipe!r:.80}"
        elif len(payload) != 1:
            problem = f"one content is expected, not {len(payload)}"
        if problem:
            bus.send(self._people, self.recipes.lines(problem), to=peer)
            return
        others = frozenset(_bundles(payload[0])) - frozenset(self.recipes.bundles)
        wanted = Adoption(message.recipe, payload[0], message.based_on, message.by, peer, others)
        if not others:
            earlier = frozenset(_bundles(payload[0]))  # still open, such as the one before the last release
            self._files.adopt(replace(wanted, opened=earlier))
        elif self._waiting is not None:
            bus.send(self._people, self.recipes.lines("the workers are opening other bundles: try again"), to=peer)
        else:
            self._waiting = replace(wanted, opened=frozenset(_bundles(payload[0])))
            self._want(others, time.monotonic_ns())

    def _want(self, bundles: frozenset[str], now_ns: int) -> None:
        self._openings.want(bundles, now_ns)
        self.recipes.want(tuple(sorted(bundles)))
        self._announce()

    def _switch(self, name: str, by: str) -> None:
        before = self.recipes.active
        self.recipes.activate(name, by)
        self._tell("changeover", f"{name} by {by}; before: {before}")
        self._announce()

    def _tell(self, name: str, detail: str) -> None:
        self._happened.append(events.happened(self._station.station, _SERVICE, name, "INFO", detail))


def _bundles(content: bytes) -> Iterator[str]:
    """Yield the bundles that a recipe's content pins; nothing where it is no recipe, which is told later."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return
    views = said.get("views") if isinstance(said, dict) else None
    for view in views.values() if isinstance(views, dict) else ():
        if isinstance(view, dict) and isinstance(view.get("bundle_digest"), str):
            yield view["bundle_digest"]
