"""The database driver's errors, translated once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from config.errors import StoreError


def reason(error: SQLAlchemyError | psycopg.Error) -> str:
    """Return what the server or the driver said, in a line."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines() or [type(original).__name__]
    return f"PostgreSQL: {lines[0]}"


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into StoreError."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        raise StoreError(reason(error)) from error
