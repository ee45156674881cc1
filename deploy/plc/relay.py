"""The cable to the PLC, where it can be cut, be deaf or be slow: between the station and the memory's own server."""

from __future__ import annotations

import asyncio
from typing import cast

from config.errors import ConfigurationError


class Relay:
    """Pass on what comes, both ways, byte for byte; needs a running event loop."""

    def __init__(self, host: str, port: int, server: tuple[str, int]) -> None:
        """Name the address that the station knows, and that of the server behind."""
        self._address = host, port
        self.server = server
        self.deaf = False  # takes connections, passes nothing on
        self.late_s = 0.0  # by which answers come later
        self._listening: asyncio.Server | None = None
        self._ends: set[_End] = set()

    async def open(self) -> None:
        """Take connections; raise ConfigurationError where the address cannot be had."""
        if self._listening is not None:
            return
        host, port = self._address
        try:
            self._listening = await asyncio.get_running_loop().create_server(lambda: _End(self, None), host, port)
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port}: the PLC simulator cannot listen here: {error.strerror}; free port {port} or name "
                "another in plc.options.port"
            ) from error

    def shut(self) -> None:
        """Cut all connections and take no more."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        for end in list(self._ends):
            end.cut()

    def joined(self, end: _End) -> None:
        """Note an end of a connection."""
        self._ends.add(end)

    def left(self, end: _End) -> None:
        """Forget an end of a connection."""
        self._ends.discard(end)


class _End(asyncio.Protocol):
    """One end of a connection: the station's (made first) or the server's."""

    def __init__(self, relay: Relay, other: _End | None) -> None:
        self._relay = relay
        self._other = other
        self._to_station = other is None
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []  # what the station said before its server was reached
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._relay.joined(self)
        if self._other is None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        else:
            for piece in self._other._waiting:  # noqa: SLF001 - the other end of the same cable
                self._transport.write(piece)
            self._other._waiting.clear()  # noqa: SLF001 - the same

    def data_received(self, data: bytes) -> None:
        if self._relay.deaf:
            return
        if self._to_station and (self._other is None or self._other._transport is None):  # noqa: SLF001 - the same
            self._waiting.append(data)
        elif not self._to_station and self._relay.late_s > 0:
            asyncio.get_running_loop().call_later(self._relay.late_s, self._pass_on, data)
        else:
            self._pass_on(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._relay.left(self)
        self._transport = None
        if self._other is not None:
            self._other.cut()

    def cut(self) -> None:
        """End this end of the connection, and so the other."""
        if self._transport is not None:
            self._transport.abort()

    async def _dial(self) -> None:
        self._other = other = _End(self._relay, self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: other, *self._relay.server)
        except OSError:  # the server is not there: neither is the PLC
            self.cut()

    def _pass_on(self, data: bytes) -> None:
        if self._other is not None and self._other._transport is not None:  # noqa: SLF001 - the same
            self._other._transport.write(data)  # noqa: SLF001 - the same
