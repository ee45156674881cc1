"""A station as `make run` installs it, without PyTorch: Teach fetches it at a button, and then a product is learnt.

ANDON_SCREENSHOTS=FOLDER keeps a picture of the notice for the manual.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import signed_in
from live_servers import state_folder
from playwright.sync_api import Browser, expect
from station_process import StationProcess

from config.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # an environment is installed: minutes
ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare() -> Iterator[tuple[StationProcess, Home, str]]:
    with state_folder() as folder:
        environment = folder / "venv"
        made = ["make", "-C", str(ROOT), f"VENV={environment}", f"{environment}/.runtime"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        home = Home(folder / "home")
        python = str(environment / "bin" / "python")
        process = StationProcess(
            home.path, environment={"ANDON_KEYS": str(folder / "keys")}, andon=[python, "-m", "deploy"]
        )
        try:
            process.wait_running(240)
            yield process, home, python
        finally:
            process.stop()


def test_learning_is_fetched_and_used(chromium: Browser, bare: tuple[StationProcess, Home, str]) -> None:
    process, home, python = bare
    assert subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode == 1
    found = re.search(r"http://[\d.:]+", "".join(process.screen))
    assert found is not None
    url = found[0].rstrip("/")
    console = Path(f"/proc/{process.pids('console')[0]}/environ").read_text().split("\0")
    database = next(one.partition("=")[2] for one in console if one.startswith("ANDON_DATABASE_URL="))
    context = chromium.new_context(viewport={"width": 1024, "height": 768})
    signed_in.sign_in(context, url, "demo", database, home.path)
    page, faults = context.new_page(), []
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))

    page.goto(f"{url}/teach")
    expect(page.locator("#lacking")).to_contain_text("PyTorch is not installed here")
    page.get_by_role("button", name="Fetch it now").click()
    stage = page.locator("#lacking .stage")
    expect(stage).to_contain_text(re.compile("Looking|Downloading|Installing"), timeout=60_000)
    folder = os.environ.get("ANDON_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / "teach-fetch.png")
    expect(page.locator("#lacking")).to_have_count(0, timeout=600_000)

    page.get_by_label("Product and camera").select_option("bracket · front")
    page.get_by_label("Good images").fill("16")
    page.get_by_role("button", name="Collect", exact=True).click()
    page.wait_for_url("**/teach/*")
    state = page.locator("#state")
    expect(state).to_have_text("Ready to fit", timeout=90_000)
    page.get_by_label("Small and fast").check()
    page.get_by_role("button", name="Fit", exact=True).click()
    expect(state).to_have_text("Fitted", timeout=240_000)
    assert faults == []
