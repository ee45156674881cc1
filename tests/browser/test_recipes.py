"""Recipes in a real browser, at a running station: tried, drawn, proposed, approved, in force, rolled back."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from live_servers import Servers, state_folder
from playwright.sync_api import Browser, Page, expect
from signed_in import bearer, sign_in
from sqlalchemy import create_engine, text
from station_process import StationProcess
from storage_process import until

from config.home import Home
from deploy import stations
from storage.people import Role

STATION = """
station = "draw"
recipe = "bracket"
cameras = [{{ name = "front", type = "simulated" }}]
plc = {{ type = "modbus", options = {{ port = 0 }} }}
workers = {{ count = 1 }}
simulation = {{ rate_per_s = 5, products = ["bracket"], gate_travel_s = 1.0, seed = 7 }}
[recipes]
bracket = "{recipe}"
"""
NAME = "/api/recipes/bracket"


class Running:
    """A station as `andon up` runs it; its console is asked by an engineer's token."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.home = folder / "home"
        self.database = servers.database()
        environment = {"ANDON_DATABASE_URL": self.database, "ANDON_REDIS_URL": servers.valkey.url}
        file = folder / "station.toml"
        file.write_text(STATION.format(recipe=stations.DEMO.with_name("bracket.toml")))
        self.process = StationProcess(self.home, "--station", str(file), environment=environment)
        self.process.wait_running()
        self.url = json.loads((self.home / "lock").read_text())["console"].rstrip("/")
        self._headers = {**bearer(self.database, self.home, Role.ENGINEER), "Content-Type": "application/json"}

    def ask(self, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, json.dumps(body), self._headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            assert answer.status < 400, said
            return said

    def sign_in(self, page: Page, role: Role) -> None:
        sign_in(page.context, self.url, "draw", self.database, self.home, role)

    def judged_by(self, version: int) -> bool:
        newest = self.ask("/api/parts?limit=1")["parts"]
        return bool(newest and newest[0]["recipe_version"] == version)

    def audited(self) -> list[tuple[str, str]]:
        engine = create_engine(self.database)
        with engine.connect() as connection:
            wanted = "SELECT who, action FROM audit WHERE action ~ '^(proposal|recipe)[.]' ORDER BY number"
            rows = connection.execute(text(wanted)).all()
        engine.dispose()
        return [(row.who, row.action) for row in rows]


@pytest.fixture(scope="module")
def station(running_servers: Servers) -> Iterator[Running]:
    running_servers.ready()
    with state_folder() as folder:
        made = Running(folder, running_servers)
        try:
            until(lambda: made.ask("/api/counts")["verdicts"]["REJECT"] >= 4, lambda: "".join(made.process.screen))
            yield made
        finally:
            made.process.stop()
            shutil.rmtree(Home(made.home).runtime, ignore_errors=True)


@pytest.fixture
def page(chromium: Browser, station: Running) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1024, "height": 768}, has_touch=True)
    context.set_default_timeout(30_000)
    made, faults = context.new_page(), list[str]()
    made.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    made.on("pageerror", lambda error: faults.append(str(error)))
    station.sign_in(made, Role.ENGINEER)
    made.goto(f"{station.url}/recipes")
    yield made
    context.close()
    assert [fault for fault in faults if "422" not in fault] == [], "but for drafts that make no sense"


def tried(page: Page) -> dict[str, tuple[int, int]]:
    """Return what was and what would be, by verdict, once the last move is answered."""
    page.wait_for_timeout(100)
    expect(page.locator("#edit")).to_have_attribute("aria-busy", "false", timeout=30_000)
    rows = page.locator("#counts tbody tr").all()
    found = {}
    for row in rows:
        verdict = re.search(r"is-(\w+)", row.get_attribute("class") or "")
        was, would = (re.sub(r"\D", "", cell) for cell in row.locator("td").all_inner_texts())
        found[verdict[1] if verdict else ""] = (int(was or 0), int(would))
    return found


def drag(page: Page, name: str, right_px: float) -> None:
    box = page.get_by_role("slider", name=name).locator("circle").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for share in (0.3, 0.7, 1.0):
        page.mouse.move(x + right_px * share, y)
    page.mouse.up()


def draw(page: Page, *corners: tuple[float, float], close: bool = False) -> None:
    """Draw on the picture; corners are shares of it."""
    stage = page.locator("#stage svg")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    if close:
        for x, y in (*at, at[0]):
            page.mouse.click(x, y)
        return
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    page.mouse.up()


def test_what_is_in_force_would_do_what_it_did(page: Page, station: Running) -> None:
    found = tried(page)
    assert all(was == would for was, would in found.values())
    assert found["REJECT"][0] >= 4
    loaded = station.ask(f"{NAME}/scores?hours=8&anew=true")["loaded"]
    assert loaded["parts"] >= 20
    content = station.ask(NAME)["content"]
    trial = station.ask(f"{NAME}/what-if", {"content": content})["trial"]
    assert (trial["untold"], trial["changed"]) == ({}, [])
    assert trial["before"] == trial["after"]
    assert trial["known_before"] == trial["known_after"]
    expect(page.get_by_role("button", name="Propose", exact=True)).to_be_disabled()


def test_thresholds_are_dragged_and_moved_by_keys_and_undone(page: Page) -> None:
    before = tried(page)
    drag(page, "Reject above", 120)
    after = tried(page)
    assert after["REJECT"][1] < before["REJECT"][1]
    assert after["REVIEW"][1] > before["REVIEW"][1]
    expect(page.locator("#changes .differences dt")).to_have_text("views.front.reject_above")
    expect(page.locator("#changed .change").first).to_be_visible()
    page.locator("#undo").click()
    assert tried(page) == before
    slider = page.get_by_role("slider", name="Review above")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowLeft")
    assert float(slider.get_attribute("aria-valuenow") or "nan") < 20
    moved = tried(page)
    assert moved["PASS"][1] < before["PASS"][1]
    assert moved["REVIEW"][1] > before["REVIEW"][1]
    page.locator("#limits").get_by_label("Reject above").fill("1")
    page.keyboard.press("Tab")
    expect(page.locator("#limits").get_by_label("Reject from so many defects")).to_be_focused()
    expect(page.locator("#faults")).to_contain_text("must not exceed reject_above 1.0")
    expect(page.get_by_role("button", name="Propose", exact=True)).to_be_disabled()


def test_places_are_drawn_moved_and_deleted(page: Page) -> None:
    tried(page)
    page.locator("#kind").select_option("exclude")
    page.get_by_role("button", name="Rectangle").click()
    draw(page, (0.05, 0.05), (0.95, 0.95))
    expect(page.get_by_role("button", name="mask 1")).to_have_attribute("aria-pressed", "true")
    masked = tried(page)
    assert masked["REJECT"][1] < masked["REJECT"][0], "defects under a mask do not count"
    corner = page.get_by_label("Corner 1: x")
    left = int(corner.input_value())
    page.locator("#stage").focus()
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_label("Corner 1: x")).to_have_value(str(left + 10))
    page.get_by_label("Corner 1: x").fill("0")
    page.keyboard.press("Tab")
    expect(page.locator("#changes")).to_contain_text("(0, ")
    page.locator("#stage").focus()
    page.keyboard.press("Delete")
    assert all(was == would for was, would in tried(page).values())

    page.locator("#kind").select_option("roi")
    page.get_by_role("button", name="Polygon").click()
    draw(page, (0.4, 0.4), (0.6, 0.4), (0.5, 0.6), close=True)
    expect(page.locator("#changes dt")).to_have_text("views.front.roi")
    inside = tried(page)
    assert inside["REJECT"][1] < inside["REJECT"][0], "nothing counts outside the ROI"
    page.keyboard.press("Control+z")
    assert all(was == would for was, would in tried(page).values())
    page.get_by_role("button", name="Rectangle").focus()  # without a pointer
    page.locator("#kind").select_option("zone")
    page.get_by_role("button", name="Rectangle").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="zone 1")).to_be_visible()


def test_deadline_alarms_and_what_is_kept_are_of_the_draft(page: Page) -> None:
    tried(page)
    whole, changed = page.locator("#whole"), page.locator("#changes .differences")
    whole.get_by_label("From trigger to verdict, ms").fill("450")
    whole.get_by_label("Rejects above, %").fill("7")
    page.keyboard.press("Tab")
    expect(whole.get_by_label("until below, %")).to_have_value("5")
    whole.get_by_label("until below, %").fill("9")
    page.keyboard.press("Tab")
    expect(page.locator("#faults")).to_contain_text("clear_below 0.09 must not exceed above 0.07")
    whole.get_by_label("until below, %").fill("3")
    whole.get_by_label("Pass: pixels").select_option("reduced")
    whole.get_by_label("Pass: of one in so many parts").fill("30")
    page.keyboard.press("Tab")
    tried(page)
    expect(page.locator("#faults")).to_be_hidden()
    shown(page, "recipes-whole", at="#whole")
    for said in (
        "deadline_ms",
        "reject_rate: above: 0.07; clear_below: 0.03; over_parts: 100",
        "keep.PASS.every_parts",
    ):
        expect(changed).to_contain_text(said)
    whole.get_by_label("From trigger to verdict, ms").fill("3")
    page.keyboard.press("Tab")
    expect(whole.locator("label:has([data-field=deadline_ms]) .wrong")).to_contain_text("greater than or equal to 5")
    for _ in range(5):
        page.locator("#undo").click()
    expect(whole.get_by_label("Rejects above, %")).to_have_value("7")
    page.locator("#reset").click()
    expect(page.locator("#changes")).to_contain_text("Nothing is changed yet.")
    expect(whole.get_by_label("Rejects above, %")).to_have_value("")


def test_from_a_draft_to_a_version_in_force_and_back(page: Page, station: Running) -> None:
    tried(page)
    drag(page, "Reject above", 150)
    page.get_by_role("button", name="Rectangle").click()
    draw(page, (0.2, 0.2), (0.4, 0.5))
    page.locator("#zone").get_by_label("Name").fill("left <b>hole</b>")
    page.locator("#zone").get_by_label("Review above").fill("23")
    page.locator("#zone").get_by_label("Reject above").fill("30")
    page.keyboard.press("Tab")
    expect(page.locator("#zone").get_by_label("Review above")).to_have_value("23")
    page.get_by_label("Why").fill("too many good ones\nwere rejected")
    wanted = tried(page)
    shown(page, "recipes")
    page.get_by_role("button", name="Propose", exact=True).click()
    expect(page.locator("#toasts")).to_contain_text("Proposal 1 is made")

    page.get_by_role("tab", name="Proposals").click()
    first = page.locator(".proposal[data-number='1']")
    first.get_by_role("button", name="What changes").click()
    expect(first.locator("dt").nth(1)).to_have_text("views.front.zones")
    expect(first).to_contain_text("left <b>hole</b>")
    expect(first).to_contain_text("reject_above: 30; review_above: 23")
    first.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Do it").click()
    first.get_by_role("button", name="Activate").click()
    shown(page, "recipes-activate")
    page.get_by_role("button", name="Do it").click()
    expect(page.locator("#version")).to_have_text("version 2")
    until(lambda: station.judged_by(2), lambda: "".join(station.process.screen))
    assert wanted["REJECT"][1] < wanted["REJECT"][0]

    page.get_by_role("tab", name="Versions").click()
    row = page.locator("#history tr[data-version='1']")
    row.get_by_role("button", name="Compare").click()
    expect(page.locator("#difference dt").first).to_have_text("views.front.reject_above")
    shown(page, "recipes-versions")
    row.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_label("Comment").fill("it was better")
    page.get_by_role("button", name="Do it").click()
    expect(page.locator("#version")).to_have_text("version 1")
    until(lambda: station.judged_by(1), lambda: "".join(station.process.screen))
    by = "test-engineer"
    entered = [entry for entry in station.audited() if entry[1] != "recipe.registered"]
    assert entered == [
        *((by, f"proposal.{verb}") for verb in ("made", "approved", "activated")),
        (by, "recipe.rolled_back"),
    ]
    trial = station.ask(f"{NAME}/what-if", {"content": station.ask(NAME)["content"]})["trial"]
    assert trial["untold"] == {}


def test_who_may_only_look_may_try_but_not_propose(page: Page, station: Running) -> None:
    station.sign_in(page, Role.VIEWER)
    page.reload()
    tried(page)
    drag(page, "Reject above", 300)
    assert tried(page)["REVIEW"][1] > 0
    expect(page.get_by_role("button", name="Propose", exact=True)).to_have_count(0)
    page.get_by_role("tab", name="Versions").click()
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("tab", name="Edit").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "a phone scrolls down, not sideways"
    shown(page, "recipes-phone")


def shown(page: Page, name: str, at: str = "body") -> None:
    """Keep a screenshot for the manual where ANDON_SCREENSHOTS names a folder."""
    folder = os.environ.get("ANDON_SCREENSHOTS")
    if folder:
        page.evaluate("scrollTo(0, 0); document.querySelector('.beside-it').scrollTop = 0")
        page.evaluate("at => document.querySelector(at).scrollIntoView()", at)
        page.screenshot(path=Path(folder) / f"{name}.png")
