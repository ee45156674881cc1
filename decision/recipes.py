"""The recipes of the station as they are in force, the one that counts, and who may choose it. Pure.

The PLC chooses by the number of a job; while it asks for none, a person may. A part is judged by the recipe that its
trigger names, in the version that was in force when the trigger came; what comes into force later is for later parts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from config import messages
from config.log import Condition, logger
from config.messages import Job, RecipeLine, Stamp
from config.recipe import Recipe
from decision.rules import Rules

_AHEAD_NS = 300_000_000  # so long before the first part of another bundle the cameras are told of it
_AHEAD_PARTS = 2  # that may have been triggered already and are not known of here
_RETIRED_NS = 5_000_000_000  # after that part, besides the deadline: nothing is judged by the earlier bundle any more
_INTERVALS = 16


@dataclass
class _Earlier:
    """What parts below a sequence are still judged by."""

    before: int
    rules: Rules
    passed_ns: int | None = None  # when the first part of that sequence or above came


class Recipes:
    """Which version of each recipe is in force, and which recipe counts."""

    def __init__(self, rules: Mapping[str, Rules], active: str, counters: Counter[str], *, epoch: int) -> None:
        """Begin with the recipe `active`; `epoch` names this process to the cameras."""
        self._rules = dict(rules)
        self._refused: dict[str, str] = {}  # recipe -> why its file is not taken
        self.active: str | None = active
        self._stamped = active
        self._counters = counters
        self._epoch = epoch
        self._unknown_job = Condition("unknown_job", counters)
        self.plc_job = 0  # that the PLC asks for
        self._earlier: dict[str, list[_Earlier]] = {}  # by recipe, the oldest first
        self._wanted: tuple[str, ...] = ()
        self._revision = 1
        self._last = -1  # sequence
        self._last_ns = 0
        self._intervals_ns: deque[int] = deque(maxlen=_INTERVALS)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that counts; None while the PLC asks for a job that the station does not know."""
        return self.find(self.active) if self.active else None

    @property
    def job(self) -> Job:
        """What the cameras are told."""
        # Without a recipe the cameras keep stamping the last one; their triggers are judged UNKNOWN_RECIPE here.
        name = self.active or self._stamped
        earlier = self._earlier.get(name, ())
        return Job(
            epoch=self._epoch,
            recipe=name,
            deadline_ms=self._rules[name].recipe.deadline_ms,
            stamps=(
                *(Stamp(before=one.before, bundles=one.rules.bundles) for one in earlier),
                Stamp(bundles=self._rules[name].bundles),
            ),
            revision=self._revision,
            bundles=self.bundles,
            wanted=self._wanted,
        )

    @property
    def bundles(self) -> tuple[str, ...]:
        """The bundles that parts are judged by, by digest."""
        all_rules = [*self._rules.values(), *(one.rules for steps in self._earlier.values() for one in steps)]
        return tuple(sorted({digest for rules in all_rules for digest in rules.bundles.values()}))

    def want(self, bundles: tuple[str, ...]) -> None:
        """Have workers open these bundles besides those that parts are judged by."""
        if bundles != self._wanted:
            self._wanted = bundles
            self._revision += 1

    def see(self, sequence: int, now_ns: int) -> None:
        """Take note of a part that is triggered: how many may come in a moment follows from that."""
        if sequence <= self._last:
            return
        if self._last >= 0:
            self._intervals_ns.append((now_ns - self._last_ns) // (sequence - self._last))
        self._last, self._last_ns = sequence, now_ns
        for steps in self._earlier.values():
            for one in steps:
                if one.passed_ns is None and sequence >= one.before:
                    one.passed_ns = now_ns

    def retire(self, now_ns: int) -> bool:
        """Forget earlier versions that no open part is judged by; return whether workers may close a bundle."""
        before = self.bundles
        for name, steps in list(self._earlier.items()):
            kept = [
                one
                for one in steps
                if one.passed_ns is None
                or now_ns - one.passed_ns < _RETIRED_NS + one.rules.recipe.deadline_ms * 1_000_000
            ]
            self._earlier[name] = kept
            if not kept:
                del self._earlier[name]
        if self.bundles == before:
            return False
        self._revision += 1
        return True

    @property
    def refused(self) -> Mapping[str, str]:
        """Why files are not taken, by the recipe's name."""
        return self._refused

    @property
    def asked(self) -> str | None:
        """The recipe that the PLC asks for, empty for an unknown one; None while it asks for none."""
        return self.of_job(self.plc_job)[0] if self.plc_job else None

    def rules(self, name: str, sequence: int | None = None) -> Rules | None:
        """Return what a part that is triggered now for this recipe is judged by; without a sequence, what is newest."""
        if sequence is not None:
            for one in self._earlier.get(name, ()):
                if sequence < one.before:
                    return one.rules
        return self._rules.get(name)

    def find(self, name: str) -> Recipe | None:
        """Return a recipe as it is in force."""
        rules = self._rules.get(name)
        return rules.recipe if rules else None

    def of_job(self, job: int) -> tuple[str, Recipe | None]:
        """Return name and recipe of a job; no name where the station does not know it."""
        return next(
            ((name, rules.recipe) for name, rules in self._rules.items() if rules.recipe.job == job), ("", None)
        )

    def ask(self, job: int) -> int:
        """Do as the PLC asks, and return the job that it cannot have, or 0; job 0 leaves the choice to others."""
        self.plc_job = job
        if not job:
            return 0
        name, _ = self.of_job(job)
        if name:
            self._unknown_job.end()
        else:
            self._unknown_job.occur(job=job, known=[rules.recipe.job for rules in self._rules.values()])
        self._change(name or None, job=job)
        return 0 if name else job

    def problem(self, name: str) -> str | None:
        """Return why a person may not choose this recipe now; None: that is possible."""
        if name not in self._rules:
            return f"there is no recipe {name!r:.80}: the station has {', '.join(self._rules)}"
        if self.plc_job:
            return f"the PLC chooses: it asks for job {self.plc_job}, and a person may choose only while it asks for 0"
        return None

    def activate(self, name: str, by: str) -> None:
        """Judge by the recipe that a person chose."""
        self._unknown_job.end()
        self._change(name, by=by)

    def take(self, name: str, rules: Rules) -> str:
        """Put a new version in force and say so; where its bundles are others, from a part on that is soon to come."""
        before, self._rules[name] = self._rules[name], rules
        since = 0
        if before.bundles != rules.bundles:
            since = self._last + 1 + _AHEAD_PARTS
            if self._intervals_ns:
                since += -(-_AHEAD_NS // max(1, min(self._intervals_ns)))
            self._earlier.setdefault(name, []).append(_Earlier(since, before))
            self._revision += 1
        self._counters["recipe_versions"] += 1
        was, now = before.recipe.version, rules.recipe.version
        detail = f"{name}: version {now}, {rules.digest}, is in force; before: version {was}, {before.digest}"
        if since:
            detail += f"; other bundles, from part {since} on"
        logger().info("recipe version", detail=detail)
        return detail

    def refuse(self, name: str, why: str | None) -> None:
        """Note why a file, as it is now, is not taken; None: nothing is wrong with it."""
        self._refused.pop(name, None)
        if why is not None:
            self._refused[name] = why

    def lines(self, problem: str | None = None) -> messages.Recipes:
        """Return what a person is told who asks, or wanted a recipe and has this `problem`."""
        recipes = tuple(
            RecipeLine(
                name=name,
                product=rules.recipe.product,
                job=rules.recipe.job,
                version=rules.recipe.version,
                digest=rules.digest,
                refused=self._refused.get(name),
            )
            for name, rules in self._rules.items()
        )
        return messages.Recipes(active=self.active, plc_job=self.plc_job, recipes=recipes, problem=problem)

    def _change(self, name: str | None, **why: object) -> None:
        if name != self.active:
            self._counters["changeovers"] += 1
            logger().info("changeover", recipe=name, **why)
        self.active = name
        if name:
            self._stamped = name
