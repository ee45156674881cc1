"""Reviewing in a real browser by keys alone: what is said stands in the database and in the audit trail."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import signed_in
from console_process import Inspected, inspected
from live_servers import Servers
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool
from storage_process import until

from config.messages import Judgement
from storage import audit
from storage.people import Role
from storage.schema import review

PASS, REJECT, REVIEW, FAULT = Judgement
PARTS = 24
SHOTS = os.environ.get("ANDON_SCREENSHOTS")  # a folder: pictures for the manual are written there
_WATCH = """() => {
    window.shown = [];
    document.addEventListener('keydown', () => {
        const begin = performance.now(), before = document.body.dataset.part;
        requestAnimationFrame(() => requestAnimationFrame(() => {
            const image = document.querySelector('#part .large img');
            const heat = document.querySelector('#part .large .heat');
            const whole = Boolean(image?.complete && image.naturalWidth && heat.width > 100);
            if (document.body.dataset.part !== before) window.shown.push([performance.now() - begin, whole]);
        }));
    }, true);
}"""


@pytest.fixture(scope="module")
def station(running_servers: Servers) -> Iterator[Inspected]:
    running_servers.ready()
    with inspected(running_servers) as made:
        for _ in range(PARTS):
            made.line.part(REVIEW)
        until(lambda: made.console.json("/api/counts")["total"] == PARTS, made.console.said)
        yield made


def reviews(station: Inspected, part_id: str | None = None) -> list[dict[str, Any]]:
    """Return what was said, of one part or of all, in order."""
    wanted = select(review).order_by(review.c.number)
    with create_engine(station.console.database, poolclass=NullPool).connect() as connection:
        found = connection.execute(wanted if part_id is None else wanted.where(review.c.part_id == part_id))
        return [dict(row) for row in found.mappings()]


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1024, "height": 768})
    made.set_default_timeout(10_000)
    yield made
    made.close()


def open_review(
    context: BrowserContext, station: Inspected, role: Role, path: str = "/review"
) -> tuple[Page, list[str]]:
    console = station.console
    signed_in.sign_in(context, console.url, console.station.station, console.database, console.home.path, role)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(console.url + path)
    return page, faults


def part(page: Page) -> str:
    return str(page.evaluate("document.body.dataset.part"))


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def name_a_class(page: Page) -> None:
    page.keyboard.press("n")
    expect(page.locator("#asking-text")).to_be_focused()
    page.keyboard.type("Kratzer")
    page.keyboard.press("Enter")
    expect(page.locator(".class[aria-pressed=true]")).to_have_text("1Kratzer")
    page.keyboard.press("1")
    expect(page.locator(".class[aria-pressed=true]")).to_have_count(0)
    page.wait_for_timeout(300)


def say_twenty(page: Page) -> dict[str, tuple[str, str | None, str]]:
    """Say something of twenty parts; return what of which."""
    seen: dict[str, tuple[str, str | None, str]] = {}
    for number in range(20):
        one = part(page)
        assert one not in seen
        match number % 4:
            case 0:
                seen[one] = ("GOOD", None, "")
                page.keyboard.press("g")
            case 1:
                seen[one] = ("DEFECT", "Kratzer", "")
                page.keyboard.press("1")
                page.keyboard.press("d")
            case 2:
                seen[one] = ("UNSURE", None, "hard <b>to</b> say")
                page.keyboard.press("c")
                page.keyboard.type("hard <b>to</b> say")
                page.keyboard.press("Enter")
                page.keyboard.press("u")
            case _:
                seen[one] = ("DEFECT", None, "")
                page.keyboard.press("d")
        page.wait_for_timeout(120)  # a person looks at least so long
    return seen


def test_twenty_parts_by_keys_alone(context: BrowserContext, station: Inspected) -> None:
    page, faults = open_review(context, station, Role.OPERATOR)
    page.wait_for_function("() => document.querySelector('#part .large img')?.complete && document.body.dataset.part")
    page.evaluate(_WATCH)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    name_a_class(page)
    shoot(page, "review")
    seen = say_twenty(page)
    expect(page.locator("#done")).to_have_text("20")
    expect(page.locator("#saving")).to_have_text("all saved")
    found = reviews(station)
    assert {row["part_id"]: (row["finding"], row["defect_class"], row["comment"]) for row in found} == seen
    assert [row["part_id"] for row in found] == list(seen)
    assert {row["reviewer"] for row in found} == {"test-operator"}
    with create_engine(station.console.database, poolclass=NullPool).connect() as connection, connection.begin():
        noted = audit.Anchor(station.console.home.path).read()
        chain = audit.verify(connection, {"station": noted} if noted else {})
        assert chain.whole
        entries = [entry for entry in audit.newest(connection, 100) if entry.action == "review.added"][::-1]
    assert [(entry.who, entry.subject) for entry in entries] == [("test-operator", one) for one in seen]
    assert Counter(json.loads(str(entry.after))["finding"] for entry in entries) == {
        "GOOD": 5,
        "DEFECT": 10,
        "UNSURE": 5,
    }
    shown = page.evaluate("window.shown")
    assert len(shown) >= 20
    assert sum(whole for _, whole in shown) >= 19, shown
    assert median(took_ms for took_ms, _ in shown) < 100, shown
    assert faults == []


def test_correct_hold_and_switch_by_keys(context: BrowserContext, station: Inspected) -> None:
    page, faults = open_review(context, station, Role.OPERATOR)
    page.wait_for_function("() => document.body.dataset.part")
    first = part(page)
    boxes = page.locator("#part .large .boxes")
    expect(boxes).to_be_visible()
    page.keyboard.press(" ")
    expect(boxes).to_be_hidden()
    page.keyboard.press(" ")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#part .large figcaption")).to_have_text("bottom")
    page.keyboard.press("ArrowRight")
    second = part(page)
    assert second != first
    page.keyboard.press("ArrowLeft")
    assert part(page) == first
    page.keyboard.press("h")
    page.keyboard.type("customer 12")
    page.keyboard.press("Enter")
    expect(page.locator("#part .held")).to_have_text("On hold by test-operator: customer 12")
    page.keyboard.press("h")
    expect(page.locator("#part .held")).to_be_hidden()
    page.keyboard.press("d")
    assert part(page) == second
    page.keyboard.press("z")
    assert part(page) == first
    expect(page.locator("#part .said")).to_have_text("You said: defect")
    page.keyboard.press("g")
    assert part(page) == second
    expect(page.locator("#saving")).to_have_text("all saved")
    said = reviews(station, first)
    assert [row["finding"] for row in said] == ["DEFECT", "GOOD"]  # appended, not changed
    assert faults == []


def test_what_is_not_saved_is_said_and_saved_again(context: BrowserContext, station: Inspected) -> None:
    page, _ = open_review(context, station, Role.OPERATOR)
    page.wait_for_function("() => document.body.dataset.part")
    one = part(page)
    context.set_offline(True)
    page.keyboard.press("g")
    expect(page.locator("#unsaved")).to_contain_text("1 not saved.")
    context.set_offline(False)
    page.keyboard.press("r")
    expect(page.locator("#unsaved")).to_be_hidden()
    expect(page.locator("#saving")).to_have_text("all saved")
    assert len(reviews(station, one)) == 1


def test_a_second_opinion_and_what_comes_of_it(chromium: Browser, context: BrowserContext, station: Inspected) -> None:
    page, faults = open_review(context, station, Role.ENGINEER, "/review?opinion=second")
    page.wait_for_function("() => document.body.dataset.part")
    for key in "gdgdgdgdud":
        page.keyboard.press(key)
        page.wait_for_timeout(60)
    expect(page.locator("#saving")).to_have_text("all saved")
    page.keyboard.press("t")
    page.locator("#picking button[value=good]").click()
    expect(page.locator(".toast.fault")).to_contain_text("is smaller")
    faults.clear()  # that is the refusal's 422
    page.goto(station.console.url + "/review/results")
    expect(page.locator(".estimate output")).to_have_count(3)
    expect(page.locator("main")).to_contain_text("test-engineer, test-operator")
    shoot(page, "review-results")
    page.goto(station.console.url + "/review/picks")
    expect(page.get_by_role("heading", name="Nothing is picked")).to_be_visible()
    assert faults == []
    narrow = chromium.new_context(viewport={"width": 390, "height": 844}, locale="ko", color_scheme="dark")
    phone, phone_faults = open_review(narrow, station, Role.OPERATOR)
    phone.wait_for_function("() => document.querySelector('#part .large img')?.complete")
    phone.wait_for_timeout(300)
    shoot(phone, "review-phone")
    for path in ("/review", "/review/results", "/review/picks"):
        phone.goto(station.console.url + path)
        phone.wait_for_timeout(200)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, path
    narrow.close()
    assert phone_faults == []


def test_two_reviewers_are_given_different_parts(station: Inspected) -> None:
    console = station.console
    given = []
    for role in (Role.OPERATOR, Role.ADMIN):
        headers = signed_in.bearer(console.database, console.home.path, role)
        status, _, body = console.get("/api/review/queue?limit=2&opinion=second", as_nobody=True, **headers)
        assert status == 200, body
        given.append({one["part"]["part_id"] for one in json.loads(body)["parts"]})
    assert [len(parts) for parts in given] == [2, 2]
    assert given[0].isdisjoint(given[1])
    viewer = signed_in.bearer(console.database, console.home.path, Role.VIEWER)
    assert console.get("/api/review/queue", as_nobody=True, **viewer)[0] == 403
    for path in ("review/confusion?product=bracket", "review/agreement", "review/classes", "picks", "picks/counts"):
        assert console.get(f"/api/{path}", as_nobody=True, **viewer)[0] == 200, path
    for path in ("review/confusion?bundle=x", "review/queue?verdict=BAD", "review/queue?after=x", "picks?after=x"):
        status, _, body = console.get(f"/api/{path}")
        assert status == 422, path
        assert path.partition("?")[2].partition("=")[0] in body.decode(), path


def test_who_may_only_look_is_given_nothing(context: BrowserContext, station: Inspected) -> None:
    page, faults = open_review(context, station, Role.VIEWER)
    expect(page.locator("#part")).to_contain_text("handed out to operators")
    expect(page.locator(".finding").first).to_be_disabled()
    review_of, said = f"{station.console.url}/api/parts/x/reviews", {"finding": "GOOD"}
    origin = {"Origin": station.console.url}
    assert page.request.post(review_of, data=said, headers=origin).status == 403
    admin = {**station.console.credentials, "Cookie": ""}
    assert page.request.post(review_of, data=said, headers=admin).status == 404
    pick = {"part_id": "x", "camera": "top"}
    assert page.request.post(f"{station.console.url}/api/picks", data=pick, headers=admin).status == 404
    assert page.request.delete(f"{station.console.url}/api/parts/x/hold", headers=admin).status == 422
    assert faults == []
