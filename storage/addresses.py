"""Where PostgreSQL and Redis are: two environment variables, checked before anything connects."""

from __future__ import annotations

import os

from redis.connection import parse_url
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from config.errors import ConfigurationError

DATABASE = "ANDON_DATABASE_URL"
REDIS = "ANDON_REDIS_URL"
_DATABASE_EXAMPLE = "postgresql+psycopg://user@host:5432/andon"
_REDIS_EXAMPLE = "redis://host:6379/0 or unix:///path/to/socket"


def database_url() -> URL:
    """Return the database of ANDON_DATABASE_URL; raise ConfigurationError, which never shows the password."""
    return parse_database_url(_read(DATABASE, _DATABASE_EXAMPLE), DATABASE)


def parse_database_url(text: str, source: str) -> URL:
    """Return `text`, which came from `source`, as a URL; raise ConfigurationError, which never shows the password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # neither text is passed on: it may hold the password
        raise ConfigurationError(f"{source}: is no database URL: it must look like {_DATABASE_EXAMPLE}") from None
    if url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise ConfigurationError(f"{source}: {url.drivername!r} is not supported: use {_DATABASE_EXAMPLE}")
    if not url.database:
        raise ConfigurationError(f"{source}: names no database: it must look like {_DATABASE_EXAMPLE}")
    return url.set(drivername="postgresql+psycopg")


def redis_url() -> str:
    """Return the server of ANDON_REDIS_URL; raise ConfigurationError, which never shows the password."""
    text = _read(REDIS, _REDIS_EXAMPLE)
    try:
        parse_url(text)  # type: ignore[no-untyped-call]  # redis-py leaves this one bare
    except ValueError:  # its text is not passed on: it may hold the password
        raise ConfigurationError(f"{REDIS}: is no Redis URL: it must look like {_REDIS_EXAMPLE}") from None
    return text


def _read(variable: str, example: str) -> str:
    text = os.environ.get(variable, "").strip()
    if not text:
        raise ConfigurationError(f"{variable} is not set: it must look like {example}")
    return text
