"""Who calls: clients are known by the certificates of their connections; a method learns its caller's name."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from config.errors import ConfigurationError
from decision.certificates import load

_CALLER: Final[ContextVar[str | None]] = ContextVar("caller", default=None)


def caller() -> str | None:
    """Return the controller whose call is being answered; None where it is somebody who may only look."""
    return _CALLER.get()


class Callers(UserManager):
    """Everybody may look; those whose certificate is known, and valid now, have a name."""

    def __init__(self, controllers: Mapping[str, Path]) -> None:
        """Read the certificates; raise ConfigurationError where one cannot be."""
        self._known: dict[bytes, tuple[str, x509.Certificate]] = {}
        for who, file in controllers.items():
            try:
                certificate = load(file.read_bytes())
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"opcua: controllers.{who}: {file}: no certificate: {error}") from error
            self._known[certificate.public_bytes(Encoding.DER)] = who, certificate

    def get_user(
        self,
        iserver: object,  # noqa: ARG002 - the library's signature
        username: str | None = None,  # noqa: ARG002 - as above
        password: str | None = None,  # noqa: ARG002 - as above
        certificate: bytes | None = None,
    ) -> User | None:
        """Return who is asking: the library has seen that it holds the key of `certificate` (DER)."""
        who, known = self._known.get(certificate or b"", (None, None))
        if known and not known.not_valid_before_utc <= datetime.now(UTC) <= known.not_valid_after_utc:
            who = None
        return User(role=UserRole.User, name=who)


class _Session(InternalSession):
    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        _CALLER.set(self.user.name)
        return await super().call(params)


class Sessions(InternalServer):
    """The library's server, whose methods can ask who calls them."""

    def create_session(self, name: str, user: Any = None, external: bool = False) -> InternalSession:  # noqa: ANN401, FBT001, FBT002 - the library's signature
        """Return a session for a client that has connected."""
        asking = user or User(role=UserRole.Anonymous)
        return _Session(self, self.aspace, self.subscription_service, name, user=asking, external=external)
