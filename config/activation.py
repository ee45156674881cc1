"""Ask the running station for its recipes, and for another one or another version: what commands and console do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from config import bus
from config.errors import ConflictError, InputError, ServiceError
from config.messages import Activate, Adopt, Recipes, decode

if TYPE_CHECKING:
    from config.home import Home

_WITHIN_MS = 3000


def recipes(home: Home) -> Recipes:
    """Return the station's recipes; raise ServiceError where its decision stage does not answer."""
    return _ask(home, Activate(recipe=None, by=""))


def activate(home: Home, recipe: str, by: str) -> Recipes:
    """Have parts judged by `recipe` from now on; raise InputError that says why not, or ServiceError as above."""
    answer = _ask(home, Activate(recipe=recipe, by=by))
    if answer.problem is not None:
        raise InputError(answer.problem)
    return answer


def adopt(home: Home, wanted: Adopt, content: str) -> Recipes:
    """Have `content` put in force; raise ConflictError where another one was by then, and as `activate` does."""
    answer = _ask(home, wanted, content.encode())
    if answer.problem is not None:
        found = next((one for one in answer.recipes if one.name == wanted.recipe), None)
        if found is not None and found.digest != wanted.based_on:
            raise ConflictError(answer.problem)
        raise InputError(answer.problem)
    return answer


class Adopting:
    """Ask for a content to be put in force, and look for the answer now and then: workers may have a bundle to open."""

    def __init__(self, home: Home, wanted: Adopt, content: str) -> None:
        """Ask; nothing waits."""
        self._asking = bus.Bus(home.keys())
        self._socket = self._asking.connect(zmq.DEALER, home.endpoint("requests"))
        bus.send(self._socket, wanted, (content.encode(),))

    def answer(self) -> Recipes | None:
        """Return the answer, with its problem if there is one; None while there is none."""
        if not self._socket.poll(0):
            return None
        answer, _ = decode(self._socket.recv_multipart())
        if not isinstance(answer, Recipes):
            raise ServiceError(f"the decision stage answered with {answer.kind}, not {Recipes.kind}")
        return answer

    def close(self) -> None:
        """Ask no more."""
        self._asking.close()


def _ask(home: Home, question: Activate | Adopt, *payload: bytes) -> Recipes:
    asking = bus.Bus(home.keys())
    try:
        socket = asking.connect(zmq.DEALER, home.endpoint("requests"))
        bus.send(socket, question, payload)
        if not socket.poll(_WITHIN_MS):
            what = "does not answer: it does not run, or hangs"
            raise ServiceError(f"{home.path}: the decision stage of this station {what}; see `andon up`, and --home")
        answer, _ = decode(socket.recv_multipart())
    finally:
        asking.close()
    if not isinstance(answer, Recipes):
        raise ServiceError(f"{home.path}: the decision stage answered with {answer.kind}, not {Recipes.kind}")
    return answer
