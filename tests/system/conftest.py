"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_servers import Servers, state_folder

from storage.migrate import migrate


@pytest.fixture(scope="session")
def running_servers() -> Iterator[Servers]:
    with state_folder() as folder:
        servers = Servers(folder)
        try:
            servers.ready()
            migrate(servers.postgres.url)
            yield servers
        finally:
            for server in (servers.postgres, servers.valkey):
                server.kill()


@pytest.fixture
def servers(running_servers: Servers) -> Servers:
    """Both servers, up."""
    running_servers.ready()
    return running_servers
