"""The database's revision: bring it to the newest, or tell whether it is there.

`migrate` is for the supervisor and the command line; the daemon only checks. Revisions are the files in
`storage/migrations/versions`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from config.errors import StoreError
from storage.addresses import parse_database_url

_LOCK = 0x616E646F6E  # "andon": two migrations at once wait for each other
_CONNECT_S = 5


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision` (such as `head`, or `base` for an empty one), in one transaction.

    Raise ConfigurationError for a malformed URL, StoreError if the server does not answer or a step fails: then
    nothing has changed.
    """
    address = parse_database_url(url, "database URL")
    engine = create_engine(address, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_S})
    try:
        with engine.begin() as connection:
            bring(connection, revision)
    except SQLAlchemyError as error:
        shown = address.render_as_string(hide_password=True)
        raise StoreError(f"{shown}: cannot be brought to revision {revision}: {error}") from error


def bring(connection: Connection, revision: str) -> None:
    """Bring a database to `revision`, forth or back, in the transaction that is open on `connection`."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = _config()
    config.attributes["connection"] = connection
    older = {
        script.revision for script in ScriptDirectory.from_config(config).iterate_revisions(present(connection), "base")
    }
    if revision == "base" or revision in older - {present(connection)}:
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def present(connection: Connection) -> str | None:
    """Return the revision that the database is at; None where it has no schema of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def known() -> set[str]:
    """Return the revisions that this Andon can bring a database to."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def check(connection: Connection) -> None:
    """Raise StoreError unless the database is at the newest revision."""
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    found = present(connection)
    if found != wanted:
        raise StoreError(
            f"the database is at revision {found or 'none'}, this Andon needs {wanted}: "
            "`andon up` migrates it, or storage.migrate.migrate(url)"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
