"""The recipes of the station as they are in force, the one that counts, and who may choose it. Pure.

The PLC chooses by the number of a job; while it asks for none, a person may. A part is judged by the recipe that its
trigger names, in the version that was in force when the trigger came; what comes into force later is for later parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from config import messages
from config.log import Condition, logger
from config.messages import Job, RecipeLine
from config.recipe import Recipe
from decision.rules import Rules


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

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that counts; None while the PLC asks for a job that the station does not know."""
        return self.find(self.active) if self.active else None

    @property
    def job(self) -> Job:
        """What the cameras are told."""
        # Without a recipe the cameras keep stamping the last one; their triggers are judged UNKNOWN_RECIPE here.
        name = self.active or self._stamped
        return Job(epoch=self._epoch, recipe=name, deadline_ms=self._rules[name].recipe.deadline_ms)

    @property
    def refused(self) -> Mapping[str, str]:
        """Why files are not taken, by the recipe's name."""
        return self._refused

    @property
    def asked(self) -> str | None:
        """The recipe that the PLC asks for, empty for an unknown one; None while it asks for none."""
        return self.of_job(self.plc_job)[0] if self.plc_job else None

    def rules(self, name: str) -> Rules | None:
        """Return what a part that is triggered now for this recipe is judged by."""
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
        """Put a new version in force and say so."""
        before, self._rules[name] = self._rules[name], rules
        self._counters["recipe_versions"] += 1
        was, now = before.recipe.version, rules.recipe.version
        detail = f"{name}: version {now}, {rules.digest}, is in force; before: version {was}, {before.digest}"
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
