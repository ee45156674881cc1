"""Who may do what at a station. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import total_ordering


@total_ordering
class Role(Enum):
    """What a person may do; each role may do all that the ones before it may."""

    VIEWER = "VIEWER"  # see everything
    OPERATOR = "OPERATOR"  # acknowledge, review, hold, change over
    ENGINEER = "ENGINEER"  # edit recipes, teach, pick images to train from
    ADMIN = "ADMIN"  # people and their tokens

    def __lt__(self, other: Role) -> bool:
        """Tell whether the other may do more."""
        return _RANKS[self] < _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in, with what they may do now: a token may do less than the person it belongs to."""

    name: str
    role: Role
