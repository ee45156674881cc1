"""Servers of somebody else's, named by ANDON_DATABASE_URL and ANDON_REDIS_URL: tried once, with clear errors."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

import psycopg
import redis
from psycopg import pq
from psycopg.conninfo import make_conninfo
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from config.errors import ConfigurationError, StoreError

DATABASE_VARIABLE = "ANDON_DATABASE_URL"
REDIS_VARIABLE = "ANDON_REDIS_URL"

# The oldest that its makers still mend (PostgreSQL), or that Debian 12 brings (Redis).
_POSTGRES_OLDEST = 15
_REDIS_OLDEST = (7, 0)
_TIMEOUT_S = 5

_DATABASE_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_REDIS_EXAMPLE = "redis://:PASSWORD@HOST:6379/0 (or rediss://, unix:///PATH)"
_ESCAPES = "with '@', ':', '/', '?', '#' and '%' in a password written as %40, %3A, %2F, %3F, %23 and %25"


def external_database(text: str) -> str:
    """Return the URL `text` as SQLAlchemy wants it, after the PostgreSQL that it names answered a query.

    Raise ConfigurationError where the URL is malformed, the server refuses us, is too old or not encoded in UTF-8,
    StoreError where nobody answers. Neither shows the password.
    """
    url = _parse_database(text)
    where = f"{url.username or ''}@{url.query.get('host', url.host)}:{url.port or 5432}/{url.database}"
    _, arguments = url.get_dialect()().create_connect_args(url)
    conninfo = {**arguments, "connect_timeout": _TIMEOUT_S}
    try:
        with psycopg.connect(**conninfo) as connection:
            version = connection.info.server_version // 10_000
            encoding = connection.info.parameter_status("server_encoding")
    except psycopg.ProgrammingError as error:  # an option after '?' that libpq does not know
        raise _malformed(DATABASE_VARIABLE, _DATABASE_EXAMPLE, str(error)) from error
    except psycopg.Error as error:
        answers = pq.PGconn.ping(make_conninfo(**conninfo).encode()) in {pq.Ping.OK, pq.Ping.REJECT}
        if not answers:
            raise _away(
                DATABASE_VARIABLE, f"the PostgreSQL at {where} does not answer: {error}", url.password
            ) from None
        raise _wrong(DATABASE_VARIABLE, f"the PostgreSQL at {where} refuses us: {error}", url.password) from None
    if version < _POSTGRES_OLDEST:
        needed = f"{_POSTGRES_OLDEST} or later is needed"
        raise _wrong(DATABASE_VARIABLE, f"{where} is PostgreSQL {version}: {needed}", url.password)
    if encoding != "UTF8":
        needed = "UTF8 is needed (createdb --encoding=UTF8 --template=template0)"
        raise _wrong(DATABASE_VARIABLE, f"{where} is encoded as {encoding}: {needed}", url.password)
    return url.render_as_string(hide_password=False)


def external_redis(text: str) -> str:
    """Return the URL `text` after the Redis or Valkey that it names answered.

    Raise ConfigurationError where the URL is malformed, the server refuses us or is too old, StoreError where nobody
    answers. Neither shows the password.
    """
    parts = _parse_redis(text)
    password = parts.password
    where = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}{parts.path}"
    try:
        client = redis.Redis.from_url(
            text, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
    except (ValueError, TypeError):
        raise _malformed(REDIS_VARIABLE, _REDIS_EXAMPLE) from None
    try:
        with client:
            about = client.info("server")
    except TypeError:  # an option after '?' that no connection has
        options = ", ".join(parse_qs(parts.query))  # their names alone: one of the values can be a password
        raise _malformed(REDIS_VARIABLE, _REDIS_EXAMPLE, f"one of these options is unknown: {options}") from None
    except (redis.AuthenticationError, redis.ResponseError) as error:
        raise _wrong(REDIS_VARIABLE, f"the Redis at {where} refuses us: {error}", password) from None
    except redis.RedisError as error:
        raise _away(REDIS_VARIABLE, f"the Redis at {where} does not answer: {error}", password) from None
    # Every Valkey will do: it began as Redis 7.2, and says so here.
    version = str(about["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _REDIS_OLDEST:
        needed = ".".join(str(part) for part in _REDIS_OLDEST)
        raise _wrong(REDIS_VARIABLE, f"{where} is Redis {version}: {needed} or later, or Valkey, is needed", password)
    return text


def _parse_database(text: str) -> URL:
    try:
        url = make_url(text)
        has_port = url.port is None or 0 < url.port < 2**16
    except (ArgumentError, ValueError):
        raise _malformed(DATABASE_VARIABLE, _DATABASE_EXAMPLE) from None
    if url.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise _malformed(DATABASE_VARIABLE, _DATABASE_EXAMPLE)
    if not has_port or not url.database or not (url.host or url.query.get("host")) or "@" in (url.host or ""):
        raise _malformed(DATABASE_VARIABLE, _DATABASE_EXAMPLE)
    return url.set(drivername="postgresql+psycopg")


def _parse_redis(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise _malformed(REDIS_VARIABLE, _REDIS_EXAMPLE) from None
    at_home = parts.scheme == "unix" and parts.path.startswith("/")
    elsewhere = parts.scheme in {"redis", "rediss"} and parts.hostname and re.fullmatch(r"(/\d*)?", parts.path)
    if not (at_home or elsewhere) or not has_port or parts.netloc.count("@") > 1 or parts.fragment:
        raise _malformed(REDIS_VARIABLE, _REDIS_EXAMPLE)
    return parts


def _malformed(variable: str, example: str, why: str = "") -> ConfigurationError:
    # The text itself is not shown: who can say which part of a malformed URL is the password?
    detail = f" ({why.strip()})" if why else ""
    return ConfigurationError(f"{variable}: malformed{detail}; right is {example}, {_ESCAPES}")


def _wrong(variable: str, message: str, password: str | None) -> ConfigurationError:
    return ConfigurationError(_line(variable, message, password))


def _away(variable: str, message: str, password: str | None) -> StoreError:
    # No configuration error: a database host may boot later than the station, and trying again then helps.
    return StoreError(_line(variable, message, password))


def _line(variable: str, message: str, password: str | None) -> str:
    line = " ".join(message.split())
    return f"{variable}: {line.replace(password, '***') if password else line}"
