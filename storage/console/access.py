"""What each route asks of the person who calls it: `person: Annotated[Person, needs(Role.OPERATOR)]`.

Who is signed in has been found out before (`door.py`); here only the role is looked at.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from storage.console.models import Problem
from storage.people import Person, Role
from storage.sessions import Signed

RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the body cannot be read"},
    401: {"model": Problem, "description": "nobody is signed in"},
    403: {"model": Problem, "description": "the role is too low, or another site asks"},
    413: {"model": Problem, "description": "the body is too large"},
    415: {"model": Problem, "description": "a page sent a body that is neither JSON nor an upload"},
    422: {"model": Problem, "description": "a value makes no sense, or does not follow: `detail` names it"},
    503: {"model": Problem, "description": "PostgreSQL, Redis or the station is away"},
}
_BEARER = Depends(  # for the API's description alone: the door has looked already
    HTTPBearer(scheme_name="token", description="with the least role that each asks for", auto_error=False)
)


class _Needs:
    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request, _: Annotated[object, _BEARER]) -> Person:
        person: Person = request.state.person
        if person.role < self.role:
            what = f"this needs the role {self.role.value}; {person.name} has {person.role.value}"
            raise HTTPException(403, f"{what}: ask an administrator")
        return person


def needs(role: Role) -> Any:  # noqa: ANN401 - what FastAPI's Depends is, too
    """Return the dependency that gives the Person who is signed in, and refuses one of a lower role than `role`."""
    return Security(_Needs(role), scopes=[role.value])


def least_role(route: APIRoute) -> Role:
    """Return the least role that a route asks for."""
    return max((found.role for found in _needs_of(route.dependant)), default=Role.VIEWER)


def _needs_of(dependant: Dependant) -> list[_Needs]:
    own = [dependant.call] if isinstance(dependant.call, _Needs) else []
    return own + [found for below in dependant.dependencies for found in _needs_of(below)]


def _signed(request: Request) -> Signed:
    signed: Signed = request.state.signed
    return signed


SignedIn = Annotated[Signed, Depends(_signed)]
