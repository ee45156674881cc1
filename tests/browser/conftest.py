"""Fixtures of the browser tests: the servers and processes of the system tests, and Chromium."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

from live_servers import Servers, state_folder

from storage.migrate import migrate

CHROMIUM = Path("/usr/bin/chromium")
_QUIET = [
    "--no-sandbox",  # tests run as root too
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(
            f"NO BROWSER: {CHROMIUM} is missing, the console is NOT tested in a browser: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=_QUIET)
        yield browser
        browser.close()


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
