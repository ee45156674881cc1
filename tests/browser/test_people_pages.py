"""Signing in, passwords and the page People, in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import signed_in
from console_process import Inspected, inspected
from live_servers import Servers
from playwright.sync_api import Browser, Page, expect

from storage.people import Role

_SCREENSHOTS = os.environ.get("ANDON_SCREENSHOTS")  # a folder, where pictures for the manual are asked for
_OWN = "a lamp over the line"


@pytest.fixture(scope="module")
def station(running_servers: Servers) -> Iterator[Inspected]:
    running_servers.ready()
    with inspected(running_servers) as made:
        yield made


@pytest.fixture
def page(chromium: Browser, station: Inspected) -> Iterator[Page]:
    context = chromium.new_context(
        viewport={"width": 1024, "height": 768}, base_url=station.console.url, has_touch=True
    )
    context.set_default_timeout(20_000)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    context.close()
    assert faults == []


def enter(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.keyboard.press("Enter")


def added(station: Inspected, name: str, role: Role) -> str:
    """Return the one-time password of somebody new."""
    with signed_in.ledger(station.console.database, station.console.home.path) as ledger:
        return signed_in.Roster(ledger).add(name, role, "test")


def show(page: Page, name: str) -> None:
    if _SCREENSHOTS:
        page.screenshot(path=Path(_SCREENSHOTS) / f"console-{name}.png")


def test_one_comes_in_by_a_one_time_password_and_chooses_another(page: Page, station: Inspected) -> None:
    once = added(station, "ada", Role.OPERATOR)
    page.goto("/defects?verdict=REJECT")
    expect(page).to_have_title("Sign in · st · Andon")
    expect(page.get_by_label("Name")).to_be_focused()
    expect(page.locator(".top nav a")).to_have_count(0)
    show(page, "sign-in")
    enter(page, "ada", "not this one")
    expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong")
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    enter(page, "ada", once)
    page.wait_for_url("**/password")
    expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
    expect(page.locator(".top nav a")).to_have_count(0)
    show(page, "password")
    page.get_by_label("One-time password").fill(once)
    page.get_by_label("New password", exact=True).fill(_OWN)
    page.get_by_label("New password, again").fill(_OWN + "s")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("alert")).to_contain_text("differ")
    page.get_by_label("New password, again").fill(_OWN)
    page.get_by_role("button", name="Change the password").click()
    page.wait_for_url(station.console.url + "/")
    page.get_by_label("Signed in as ada").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto("/defects?verdict=REJECT")
    enter(page, "ada", _OWN)
    page.wait_for_url("**/defects?verdict=REJECT")
    assert [cookie["httpOnly"] for cookie in page.context.cookies() if cookie["name"] == "andon-st"] == [True]


def test_a_session_that_ends_brings_the_live_page_to_the_sign_in(page: Page, station: Inspected) -> None:
    console = station.console
    signed_in.sign_in(page.context, console.url, "st", console.database, console.home.path, Role.VIEWER)
    page.goto("/")
    expect(page.locator("#light .state")).not_to_have_text("Connecting")
    with signed_in.ledger(console.database, console.home.path) as ledger:
        signed_in.Roster(ledger).disable("test-viewer", "test")
    page.wait_for_url("**/sign-in")


def test_an_administrator_keeps_people_and_tokens(page: Page, station: Inspected) -> None:
    console = station.console
    signed_in.sign_in(page.context, console.url, "st", console.database, console.home.path, Role.ADMIN)
    page.goto("/")
    page.get_by_role("link", name="People").click()
    page.get_by_role("button", name="Add a person").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("<b>bo</b>")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_role("alert")).to_contain_text("must be 1 to 64 letters")
    dialog.get_by_label("Name").fill("Bo")
    dialog.get_by_label("Role").select_option("VIEWER")
    dialog.get_by_role("button", name="Add").click()
    once = page.locator("#told .secret")
    expect(once).to_have_text(re.compile(r"^([a-z2-9]{4}-){3}[a-z2-9]{4}$"))
    page.get_by_role("button", name="I have kept it").click()
    row = page.locator("#people tr[data-name=bo]")
    expect(row).to_contain_text("one-time password")
    row.get_by_label("Role of bo").select_option("ENGINEER")
    expect(page.locator(".toast")).to_contain_text("bo is Engineer from now on")
    page.get_by_role("button", name="Add a token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("reporting")
    dialog.get_by_label("For").select_option("bo")
    dialog.get_by_label("Role").select_option("VIEWER")
    dialog.get_by_role("button", name="Add").click()
    expect(page.locator("#told .secret")).to_contain_text("andon_")
    page.get_by_role("button", name="I have kept it").click()
    expect(page.locator("#tokens tr[data-name=reporting]")).to_contain_text("bo")
    show(page, "people")
    page.locator("#people tr[data-name=bo]").get_by_role("button", name="Keep out").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#people tr[data-name=bo]")).to_contain_text("kept out")
    page.locator("#tokens tr[data-name=reporting]").get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#tokens tr[data-name=reporting]")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1024


def test_who_may_only_look_sees_no_page_of_administrators(page: Page, station: Inspected) -> None:
    console = station.console
    signed_in.sign_in(page.context, console.url, "st", console.database, console.home.path, Role.VIEWER)
    page.goto("/")
    expect(page.get_by_role("link", name="Defects").first).to_be_visible()
    expect(page.get_by_role("link", name="People")).to_have_count(0)
    answer = page.goto("/people")
    assert answer is not None
    assert answer.status == 403
    expect(page.locator(".detail")).to_contain_text("this needs the role ADMIN")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/password")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
