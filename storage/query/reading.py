"""One look at the database: everything that is read in it is of one moment, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from config.errors import StoreError

_CONNECT = {
    "connect_timeout": 3,
    "application_name": "andon reading",
    "options": "-c statement_timeout=15000 -c default_transaction_read_only=on",
}


@contextmanager
def reading(url: URL | str) -> Iterator[Connection]:
    """Give a connection for the time of a `with` block; raise StoreError where the server does not answer."""
    engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT, isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None) or error
        lines = str(original).strip().splitlines() or [type(original).__name__]
        raise StoreError(f"PostgreSQL: {lines[0]}") from error
