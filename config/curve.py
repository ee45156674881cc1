"""The station's key pair: who has its file may speak on the bus, and nobody else can read along (CurveZMQ, RFC 26)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zmq

from config.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from zmq.auth.thread import ThreadAuthenticator

    from config.bus import Context, Socket

_KEY_CHARACTERS = 40  # Z85
_DOMAIN = "station"


@dataclass(frozen=True)
class Keys:
    """One pair for all processes of a station, on whatever machine: each is server and client with it."""

    public: bytes
    secret: bytes = field(repr=False)

    @staticmethod
    def make(path: Path) -> Keys:
        """Make a pair and keep it in a new file that only its owner reads; raise ConfigurationError if it is there."""
        keys = Keys(*zmq.curve_keypair())
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(b"%b\n%b\n" % (keys.public, keys.secret))
        except OSError as error:
            raise ConfigurationError(f"{path}: no keys can be kept here: {error.strerror}") from error
        return keys

    @staticmethod
    def read(path: Path) -> Keys:
        """Read what `make` has written; raise ConfigurationError for anything else, or if others may read it."""
        try:
            others, lines = path.stat().st_mode & 0o077, path.read_bytes().split()
        except OSError as error:
            raise ConfigurationError(f"{path}: the bus's keys cannot be read: {error.strerror}") from error
        if others:
            raise ConfigurationError(f"{path}: the bus's keys are open to other accounts: chmod 600 it")
        if [len(line) for line in lines] != [_KEY_CHARACTERS] * 2 or zmq.curve_public(lines[1]) != lines[0]:
            raise ConfigurationError(f"{path}: not a key pair: `andon keys FILE` makes one")
        return Keys(*lines)

    def guard(self, context: Context) -> ThreadAuthenticator:
        """Let nobody else come to sockets of `context` that are bound; to be stopped before the context ends."""
        from zmq.auth.thread import ThreadAuthenticator  # noqa: PLC0415 - brings asyncio, which few stations need

        guard = ThreadAuthenticator(context)
        guard.start()
        guard.configure_curve_callback(_DOMAIN, _Only(self.public))
        return guard

    def listen(self, socket: Socket) -> None:
        """Make a socket that will be bound encrypted."""
        socket.curve_server = True
        socket.curve_secretkey = self.secret
        socket.zap_domain = _DOMAIN.encode()

    def call(self, socket: Socket) -> None:
        """Make a socket that will connect encrypted."""
        socket.curve_serverkey = socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret


class _Only:
    """The one client key that is let in."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    def callback(self, _domain: str, key: bytes) -> bool:
        """Tell whether the client's key (Z85) is the station's."""
        return key == self._public
