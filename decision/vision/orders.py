"""The methods of OPC 40100-1 that control the station: each is an order to the decision stage, and waits until done."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from config.messages import Control, Controlled, Method
from decision.vision import arguments
from decision.vision.arguments import Answer, status
from decision.vision.callers import caller
from decision.vision.methods import Answers
from decision.vision.results import UNKNOWN, types

OTHER_JOB: Final = -2  # our own error codes: the PLC asks for another job
NOT_PREPARED: Final = -3  # the recipe or product is not the one that is prepared
NOT_TAKEN: Final = -4  # the station can do nothing with that argument
_REFUSED: Final = {"JOB": OTHER_JOB, "RECIPE": NOT_PREPARED}
_ANSWER_S = 5.0  # the decision stage answers within a recipe's deadline and 0.1 s


@dataclass(frozen=True)
class Denied:
    """Somebody called a method who may not."""

    method: str


@dataclass
class Job:
    """What a client has said of the job that it starts; `number` counts the jobs of this server."""

    number: int = 0
    meas_id: Any = None
    part_id: Any = None


@dataclass
class Orders:
    """Orders on their way; all in the server's loop. `send` hands one to the thread that has the bus."""

    send: Callable[[Control | Denied], None]
    shown: Answers
    job_id: Callable[[], str]  # of the job that is executed
    next_job: Job = field(default_factory=Job)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: dict[str, asyncio.Future[Controlled]] = field(default_factory=dict)

    def methods(self) -> dict[str, arguments.Method]:
        """Return the methods by their browse names."""
        return {
            "Halt": self._caused("Halt"),
            "Reset": self._caused("Reset"),
            "Stop": self._caused("Stop"),
            "Abort": self._caused("Abort"),
            "SelectModeAutomatic": self._select,
            "StartSingleJob": self._starting("StartSingleJob"),
            "StartContinuous": self._starting("StartContinuous"),
            "PrepareRecipe": self._prepare_recipe,
            "PrepareProduct": self._prepare_product,
            "UnprepareRecipe": self._unprepare_recipe,
            "UnprepareProduct": self._unprepare_product,
            "ActivateConfiguration": self._activate,
        }

    def of_recipe(self, name: str) -> dict[str, arguments.Method]:
        """Return the methods of a recipe's object (7.7.2.4, 7.7.2.5)."""

        async def prepare(_parent: ua.NodeId) -> Answer:
            error = await self._about("PrepareRecipe", name)
            return error if isinstance(error, ua.StatusCode) else [_yes(error == 0), _int(error)]

        async def unprepare(_parent: ua.NodeId) -> Answer:
            return _answer(await self._about("UnprepareRecipe", name))

        return {"Prepare": prepare, "Unprepare": unprepare}

    def answered(self, answer: Controlled) -> None:
        """Take the decision stage's answer; one that comes too late is told to nobody."""
        waiting = self._waiting.get(answer.order_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _caused(self, method: Method) -> arguments.Method:
        async def call(_parent: ua.NodeId, cause: ua.Variant, description: ua.Variant) -> Answer:
            said = f"cause {cause.Value}" + (f", {description.Value}" if description.Value else "")
            return _answer(await self._order(method, said))

        return call

    async def _select(self, _parent: ua.NodeId) -> Answer:
        return _answer(await self._order("SelectModeAutomatic"))

    def _starting(self, method: Method) -> arguments.Method:
        async def call(_parent: ua.NodeId, *given: ua.Variant) -> Answer:
            meas_id, part_id, external, product, parameters = (argument.Value for argument in given)
            meas, part = _named(meas_id), _named(part_id)
            wanted = self._prepared_one(_named(external), _named(product))
            outcome: int | ua.StatusCode | None = self._denied(method)
            if outcome is None and (parameters or (part and method == "StartContinuous")):
                outcome = NOT_TAKEN
            elif outcome is None and wanted is None:
                outcome = NOT_PREPARED
            elif outcome is None:
                said = ", ".join(f"{name} {one}" for name, one in (("measurement", meas), ("part", part)) if one)
                job = Job(meas_id=meas_id if meas else None, part_id=part_id if part else None)
                outcome = await self._order(method, said, recipe=wanted or None, job=job)
            if isinstance(outcome, ua.StatusCode):
                return outcome
            started = types.JobIdDataType(Id=self.job_id() if outcome == 0 else "")
            return [ua.Variant(started, ua.VariantType.ExtensionObject), _int(outcome or 0)]

        return call

    def _prepared_one(self, external: str, product: str) -> str | None:
        """Return the prepared recipe, empty where none is asked for by name; None where it is not the one meant."""
        if not external and not product:
            return ""
        recipe = self.shown.recipes.get(self.shown.prepared or "")
        fits = recipe and external in ("", str(recipe.job)) and product in ("", recipe.product)
        return self.shown.prepared if fits else None

    async def _prepare_recipe(self, _parent: ua.NodeId, external: ua.Variant, internal: ua.Variant) -> Answer:
        name = self._meant(_named(external.Value), _named(internal.Value))
        error = await self._about("PrepareRecipe", name)
        return error if isinstance(error, ua.StatusCode) else [self._id(name), _yes(error == 0), _int(error)]

    async def _unprepare_recipe(self, _parent: ua.NodeId, external: ua.Variant, internal: ua.Variant) -> Answer:
        name = self._meant(_named(external.Value), _named(internal.Value))
        error = await self._about("UnprepareRecipe", name)
        return error if isinstance(error, ua.StatusCode) else [self._id(name), _int(error)]

    async def _prepare_product(self, _parent: ua.NodeId, product: ua.Variant) -> Answer:
        return await self._of_product("PrepareProduct", _named(product.Value))

    async def _unprepare_product(self, _parent: ua.NodeId, product: ua.Variant) -> Answer:
        return await self._of_product("UnprepareProduct", _named(product.Value))

    async def _of_product(self, method: Method, product: str) -> Answer:
        """Prepare or unprepare the recipe of a product: the prepared one, else the only one that there is."""
        names = [name for name, recipe in self.shown.recipes.items() if product and recipe.product == product]
        only = names[0] if len(names) == 1 else None
        name = self.shown.prepared if self.shown.prepared in names else only
        error = await self._about(method, name)
        return error if isinstance(error, ua.StatusCode) else [self._id(name), _int(error)]

    async def _activate(self, _parent: ua.NodeId, internal: ua.Variant) -> Answer:
        """Answer ActivateConfiguration: there is one configuration, and it is active (7.2.2.6)."""
        active = _named(internal.Value) == self.shown.configuration.InternalId.Id
        return self._denied("ActivateConfiguration") or [_int(0 if active else UNKNOWN)]

    def _meant(self, external: str, internal: str) -> str | None:
        """Return the recipe with an id; the internal one takes precedence (7.5.2.2)."""
        if internal:
            return internal if internal in self.shown.recipes else None
        return next((name for name, recipe in self.shown.recipes.items() if external == str(recipe.job)), None)

    async def _about(self, method: Method, name: str | None) -> int | ua.StatusCode:
        if name is None:
            return self._denied(method) or UNKNOWN
        return await self._order(method, f"recipe {name}", recipe=name)

    def _denied(self, method: str) -> ua.StatusCode | None:
        """Refuse a caller who may only look."""
        if caller() is not None:
            return None
        self.send(Denied(method))
        return status(StatusCodes.BadUserAccessDenied)

    async def _order(
        self, method: Method, said: str = "", *, recipe: str | None = None, job: Job | None = None
    ) -> int | ua.StatusCode:
        """Have an order carried out; return the standard's Error, or a bad status."""
        who = caller()
        if who is None:
            return self._denied(method) or status(StatusCodes.BadUserAccessDenied)
        async with self._turn:
            if job is not None:
                self.next_job = job
            control = Control(order_id=uuid.uuid4().hex, method=method, who=who, detail=said, recipe=recipe)
            waiting = self._waiting[control.order_id] = asyncio.get_running_loop().create_future()
            self.send(control)
            try:
                answer = await asyncio.wait_for(waiting, _ANSWER_S)
            except TimeoutError:
                return status(StatusCodes.BadTimeout)
            finally:
                del self._waiting[control.order_id]
                self.next_job = Job()
        if answer.refused == "STATE":
            return status(StatusCodes.BadInvalidState)
        return _REFUSED[answer.refused] if answer.refused else 0

    def _id(self, name: str | None) -> ua.Variant:
        return ua.Variant(
            self.shown.ids.get(name or "?") or types.RecipeIdInternalDataType(), ua.VariantType.ExtensionObject
        )


def _answer(error: int | ua.StatusCode) -> Answer:
    return error if isinstance(error, ua.StatusCode) else [_int(error)]


def _named(value: Any) -> str:  # noqa: ANN401 - the library makes the types' classes while it runs
    return str(value.Id or "") if value is not None else ""


def _int(value: int) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Int32)


def _yes(value: bool) -> ua.Variant:  # noqa: FBT001 - a yes or no
    return ua.Variant(value, ua.VariantType.Boolean)
