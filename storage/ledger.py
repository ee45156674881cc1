"""Changes that people make: each one transaction together with its entries in the audit trail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine

from storage import audit
from storage.chain import Head
from storage.failures import translated

_CONNECT = {"connect_timeout": 2, "tcp_user_timeout": 5000, "options": "-c statement_timeout=15000"}


class Change:
    """A transaction that is open, and the newest entry that speaks of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.entered: Head | None = None

    def enter(
        self,
        who: str,
        action: str,
        subject: str,
        before: Mapping[str, object] | None = None,
        after: Mapping[str, object] | None = None,
    ) -> None:
        """Append an entry (`storage/audit.py`)."""
        self.entered = audit.append(self.connection, who, action, subject, before, after)


class Ledger:
    """The database at `url` and the audit trail's anchor in the state folder. Safe to use from several threads."""

    def __init__(self, url: URL | str, folder: Path, name: str) -> None:
        """Remember where things are; the first use connects, as `name`."""
        connect = {**_CONNECT, "application_name": f"andon {name}"}
        self._engine = create_engine(url, pool_size=1, max_overflow=3, pool_pre_ping=True, connect_args=connect)
        self._anchor = audit.Anchor(folder)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to look; raise StoreError where the database does not answer."""
        with translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Give a transaction, and note its newest audit entry once it is committed.

        Raise StoreError where the database does not answer: then the change may or may not have been made.
        """
        with translated(), self._engine.connect() as connection:
            change = Change(connection)
            with connection.begin():
                yield change
            if change.entered is not None:
                self._anchor.note(connection, change.entered)
