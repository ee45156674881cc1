"""What the supervisor needs to know of a server that runs as its direct child."""

from __future__ import annotations

import signal
from typing import Protocol


class Server(Protocol):
    """A server to prepare, start, watch and stop; starting and restarting it is the supervisor's part.

    Whoever starts a server holds the lock of the state folder: without it two servers could open one data folder.
    """

    name: str
    url: str
    stop_signal: signal.Signals  # asks for an orderly end that loses nothing
    kill_signal: signal.Signals  # always ends it; loses nothing that was acknowledged

    def prepare(self) -> None:
        """Make everything ready for a start; call it before every start, while the server does not run.

        Idempotent, and safe to interrupt anywhere. Raise ConfigurationError where trying again cannot help, else
        StoreError.
        """

    def command(self) -> list[str]:
        """Return the arguments to start, in the foreground and logging to stderr and stdout; after prepare()."""

    def environment(self) -> dict[str, str]:
        """Return the whole environment: nothing is inherited."""

    def user(self) -> tuple[int, int] | None:
        """Return the uid and gid to start it as, without supplementary groups; None: as we are."""

    def ready(self) -> bool:
        """Ask the server over its socket whether it takes commands; takes some ms, and 2 s at most."""
