"""Packs as objects of an S3-compatible store, one for each write, by obstore (extra `s3`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store
from pydantic import BaseModel, ConfigDict, Field

from config.errors import ConfigurationError, ImageLostError, StoreError
from storage.store import HEADER, Pack, pack_name

if TYPE_CHECKING:
    from obstore.store import S3Config  # not there at run time

_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_LOST = ("<Code>NoSuchKey</Code>", "<Code>InvalidRange</Code>")  # a missing bucket or a proxy's 404 may come back


class Options(BaseModel):
    """`[storage.images.options]` of the station file; credentials are in the environment only."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="it must exist")
    endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^/?#@\s]+/?$", description="address of the server; default: AWS in `region`"
    )
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]+$")
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$", description="of all names")
    timeout_s: float = Field(default=10.0, ge=0.1, le=60, description="of one request, with its answer")


class Driver:
    """One PUT for all images that are put together, one ranged GET for an image. Nothing is tried twice here."""

    def __init__(self, options: Options) -> None:
        """Raise ConfigurationError where the environment has no credentials. No request is made."""
        missing = [name for name in (_KEY, _SECRET) if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(
                f"storage.images: type s3 takes its credentials from the environment: {' and '.join(missing)} not set"
            )
        endpoint = (options.endpoint or f"https://s3.{options.region}.amazonaws.com").rstrip("/")
        settings: S3Config = {
            "endpoint": endpoint,
            "region": options.region,
            "access_key_id": os.environ[_KEY],
            "secret_access_key": os.environ[_SECRET],
        }
        if token := os.environ.get(_TOKEN):
            settings["session_token"] = token
        self._where = f"image store {endpoint}/{options.bucket}"
        try:
            self._store = S3Store(
                options.bucket,
                prefix=options.prefix or None,
                config=settings,
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "timeout": timedelta(seconds=options.timeout_s),
                    "connect_timeout": timedelta(seconds=min(options.timeout_s, 3.0)),
                    "user_agent": "andon",
                },
                retry_config={"max_retries": 0},  # who calls tries again, and says so
            )
        except BaseError as error:
            raise ConfigurationError(f"storage.images.options: {_reason(error)}") from error

    def write(self, under: str, contents: Sequence[bytes]) -> tuple[str, int]:
        """Put one object: it is there whole, or not at all."""
        pack = pack_name(under)
        with self._translated():
            obstore.put(self._store, pack, [HEADER, *contents], use_multipart=False)
        return pack, len(HEADER)

    def read(self, pack: str, offset: int, length: int) -> bytes:
        """Get a range of an object."""
        with self._translated():
            return obstore.get_range(self._store, pack, start=offset, length=length).to_bytes()

    def folders(self, under: str) -> list[str]:
        """List what names have in common."""
        with self._translated():
            found = obstore.list_with_delimiter(self._store, under)
        return [prefix.rsplit("/", 1)[-1] for prefix in found["common_prefixes"]]

    def packs(self, under: str) -> list[Pack]:
        """List objects."""
        with self._translated():
            return [
                Pack(item["path"], item["size"], item["last_modified"])
                for page in obstore.list(self._store, under)
                for item in page
            ]

    def remove(self, pack: str) -> None:
        """Delete an object."""
        with suppress(ImageLostError), self._translated():  # some servers answer so, AWS does not
            obstore.delete(self._store, pack)

    def free_bytes(self) -> None:
        """Say nothing: S3 does not."""

    def close(self) -> None:
        """Hold nothing: the connections end with the object."""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:  # FileNotFoundError is obstore's for 404
            kind = ImageLostError if any(code in str(error) for code in _LOST) else StoreError
            raise kind(f"{self._where}: {_reason(error)}") from None  # its own text is a page, with the whole answer


def _reason(error: Exception) -> str:
    """Return what S3 says is wrong, or else what went wrong on the way there."""
    text = str(error)
    code = re.search(r"<Code>([A-Za-z0-9]{1,64})</Code>", text)
    message = re.search(r"<Message>([^<]{1,300})</Message>", text)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    first = text.split("\n", 1)[0].split(" - ", 1)[-1][:200]
    cause = re.search(r'(?:message|error): "([^"\n]{1,200})"|InvalidCertificate\(\s*(\w{1,64})|(TimedOut)', text)
    if cause is None:
        return first
    said, certificate, _ = cause.groups()
    return f"{first} ({said or (f'certificate: {certificate}' if certificate else 'no answer in time')})"
