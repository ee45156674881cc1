"""Which of the parts that nobody need look at are looked at all the same, so that what was judged wrongly is found.

A part's place is the first four bytes of the SHA-256 of its id, as a share of all there could be. It is in the sample
of a rate if its place is below it. So the sample is the same for everybody and at any time, has nothing to do with what
the part looks like, and the one of a smaller rate lies within the one of a larger. Pure, in Python and in SQL.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import ColumnElement, false, func, literal, true
from sqlalchemy.dialects.postgresql import BYTEA

_BYTES = 4
_PLACES = 1 << 8 * _BYTES


def sampled(part_id: str, rate: float) -> bool:
    """Tell whether a part is in the sample of a rate from 0 to 1."""
    return int.from_bytes(hashlib.sha256(part_id.encode()).digest()[:_BYTES]) < _bound(rate)


def in_sample(part_id: ColumnElement[str], rate: float) -> ColumnElement[bool]:
    """Return the SQL for `sampled`; PostgreSQL compares bytes from the left, without a sign."""
    bound = _bound(rate)
    if bound in {0, _PLACES}:
        return true() if bound else false()
    digest = func.sha256(func.convert_to(part_id, "UTF8"), type_=BYTEA)
    return func.substring(digest, 1, _BYTES, type_=BYTEA) < literal(bound.to_bytes(_BYTES), BYTEA)


def _bound(rate: float) -> int:
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: must be from 0 to 1, not {rate}")
    return round(rate * _PLACES)
