"""Teach, from good images of the live camera to the release: a whole station, in a real browser, without a terminal.

ANDON_SCREENSHOTS=FOLDER keeps pictures of the pages for the manual.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import signed_in
from live_servers import state_folder
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from station_process import StationProcess
from storage_process import until

from config.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a minute and a half: a bundle is fitted beside the line
LIMIT_BYTES = 300_000
_WEIGHT = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""


@dataclass
class Whole:
    """A station that runs, and how to ask it."""

    home: Home
    url: str
    database: str
    bearer: dict[str, str]

    def json(self, path: str) -> Any:
        with contextlib.closing(HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=20)) as asking:
            asking.request("GET", path, headers=self.bearer)
            return json.load(asking.getresponse())


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    with state_folder() as folder:
        home = Home(folder / "home")
        process = StationProcess(home.path, environment={"ANDON_KEYS": str(folder / "keys")})
        try:
            process.wait_running(240)
            database = _database_of(process.pids("console")[0])
            url = re.search(r"http://[\d.:]+", "".join(process.screen))
            assert url is not None
            yield Whole(home, url[0].rstrip("/"), database, signed_in.bearer(database, home.path))
        finally:
            process.stop()


def _database_of(pid: int) -> str:
    said = Path(f"/proc/{pid}/environ").read_text()
    return next(one.partition("=")[2] for one in said.split("\0") if one.startswith("ANDON_DATABASE_URL="))


def test_from_the_live_camera_to_the_gate(chromium: Browser, whole: Whole) -> None:  # noqa: PLR0915 - one way, whole
    context = chromium.new_context(viewport={"width": 1024, "height": 768})
    context.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)  # a product is learnt beside it
    signed_in.sign_in(context, whole.url, "demo", whole.database, whole.home.path)
    page, faults = context.new_page(), []
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))

    page.goto(f"{whole.url}/teach")
    page.get_by_label("Product and camera").select_option("bracket · front")
    page.get_by_label("Good images").fill("16")
    _picture(page, "teach")
    page.get_by_role("button", name="Collect", exact=True).click()
    page.wait_for_url("**/teach/*")
    lesson_id = page.url.rpartition("/")[2]
    state = page.locator("#state")
    expect(page.locator("#work .stage")).to_contain_text("Good images from the camera", timeout=40_000)
    expect(state).to_have_text("Ready to fit", timeout=90_000)
    expect(page.locator("#thumbs button")).to_have_count(16)
    stored = whole.home.path / "lessons" / lesson_id / "images" / "train" / "good"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in stored.iterdir())

    page.get_by_role("button", name="Look for odd images").click()
    expect(state).to_have_text("Checking")
    expect(page.locator("#suspects figure").first).to_be_visible(timeout=90_000)
    page.locator("#suspects button").first.click()
    expect(page.locator("#count")).to_have_text("15 good images · 1 left out")
    _picture(page, "teach-check", "#check")

    page.get_by_label("Small and fast").check()
    page.get_by_role("button", name="Fit", exact=True).click()
    expect(state).to_have_text("Fitting")
    expect(page.locator("#work progress")).to_be_visible()
    expect(state).to_have_text("Fitted", timeout=150_000)
    expect(page.locator("#promise")).to_contain_text("at most")
    expect(page.locator("#worst figure")).to_have_count(6)
    digest = whole.json(f"/api/lessons/{lesson_id}")["lesson"]["bundle_digest"]
    _picture(page, "teach-fitted", "#fit")

    shadow = page.locator("#do-shadow")
    shadow.get_by_label("One part in").fill("2")
    shadow.get_by_label("Parts at most").fill("20")
    shadow.get_by_role("button").click()
    expect(state).to_have_text("In the shadow")
    expect(state).to_have_text("Fitted", timeout=90_000)
    expect(page.locator("#agree")).to_contain_text("20 parts since", timeout=10_000)
    found = whole.json(f"/api/lessons/{lesson_id}/shadow")
    assert found["parts"] == 20
    assert found["agree"]["low"] < found["agree"]["share"] <= 1
    assert {one["bundle_digest"] for one in _latest(whole)} == {_present(whole)}, "nothing of a shadow counts"
    _picture(page, "teach-shadow", "#shadow")

    before = _present(whole)
    page.locator("#do-release button").click()
    page.locator("#sure").get_by_role("button", name="Yes").click()
    expect(state).to_have_text("Coming into force")
    expect(state).not_to_have_text("Coming into force", timeout=90_000)
    assert state.inner_text() == "Released", whole.json(f"/api/lessons/{lesson_id}")["lesson"]["detail"]
    expect(page.locator("#released output")).to_contain_text("version 2 of bracket")
    until(lambda: {digest} == {one["bundle_digest"] for one in _latest(whole)}, lambda: str(_latest(whole)), 60)
    assert {one["recipe_version"] for one in _latest(whole)} == {2}
    _picture(page, "teach-released", "#release")

    page.get_by_role("button", name="Bring back what was before").click()
    page.locator("#sure").get_by_role("button", name="Yes").click()
    expect(page.locator("#detail")).to_have_text("version 1 is in force again", timeout=90_000)
    until(lambda: {before} == {one["bundle_digest"] for one in _latest(whole)}, lambda: str(_latest(whole)), 60)

    assert page.evaluate("document.documentElement.scrollWidth") <= 1024
    page.reload()
    expect(page.locator("#thumbs img").first).to_be_visible()
    page.wait_for_timeout(500)
    assert 0 < page.evaluate(_WEIGHT) < LIMIT_BYTES
    context.close()
    assert faults == []


def _latest(whole: Whole) -> list[dict[str, Any]]:
    """Return what is said of the newest three brackets that were judged."""
    parts = whole.json("/api/parts?recipe=bracket&limit=30")["parts"]
    judged = [part for part in parts if part["verdict"] != "FAULT"][:3]
    return [
        {
            "recipe_version": part["recipe_version"],
            "bundle_digest": whole.json(f"/api/parts/{part['part_id']}")["details"][0]["bundle_digest"],
        }
        for part in judged
    ]


def _present(whole: Whole) -> str | None:
    return whole.home.read_recipes()["bracket"].views["front"].bundle_digest


def _picture(page: Page, name: str, of: str | None = None) -> None:
    folder = os.environ.get("ANDON_SCREENSHOTS")
    if folder is None:
        return
    if of is not None:
        page.locator(of).scroll_into_view_if_needed()
        page.evaluate("selector => scrollTo(0, document.querySelector(selector).offsetTop - 12)", of)
    page.wait_for_timeout(600)
    pixels = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    pixels = pixels.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    pixels.save(Path(folder) / f"{name}.png", optimize=True)
