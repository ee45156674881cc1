"""Every page of the console: for everybody (axe-core), light enough, in two languages; what Live and Defects let do."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signed_in
from console_process import DIGEST, Inspected, inspected
from live_servers import Servers
from npm_packages import FOLDER, environment
from playwright.sync_api import Browser, BrowserContext, Page, expect
from storage_process import until

from config import events
from config.lessons import Collecting
from config.messages import Fidelity, Judgement
from inference import archive
from inference.images import encode_png
from storage.library import BundleFile, Library
from storage.people import Role
from storage.teaching import Teaching

PASS, REJECT, REVIEW, FAULT = Judgement
LIMIT_BYTES = 300_000
DESK, PHONE = (1024, 768), (390, 844)
_WEIGHT = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
_AXE = """async (rules) => (await axe.run(document, {
    resultTypes: ['violations'], ...(rules.length ? { runOnly: { type: 'rule', values: rules } } : {})
})).violations.filter((fault) => ['serious', 'critical'].includes(fault.impact)).map((fault) =>
    `${fault.id}: ${fault.help}: ${fault.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}`)"""
_SMALL = """() => [...document.querySelectorAll('button, .button, .plain, nav a, select, .choice label, summary')]
    .filter((one) => one.getClientRects().length && one.getBoundingClientRect().height < 36)
    .map((one) => `smaller than a finger: ${one.outerHTML.slice(0, 120)}`)"""


@pytest.fixture(scope="module")
def station(running_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    """A station with parts of two products, an alarm, and a bundle that has golden frames."""
    running_servers.ready()
    with inspected(running_servers) as made:
        made.line.kept = Fidelity.EXACT  # the heaviest
        for number, judgement in enumerate((REJECT, PASS, REJECT, REVIEW, FAULT, REJECT)):
            made.line.part(judgement, "board" if number == 2 else "bracket")
        alarm = events.began("st", "decision", "plc_down", "ALARM", "modbus 10.0.0.5:502 does not answer <b>")
        made.line._sender.send(alarm, [])
        made.line._sender.finish()
        path = tmp_path_factory.mktemp("bundle") / "cap.andon"
        frame = np.full((320, 320, 3), 128, np.uint8)
        path.write_bytes(archive.pack({"golden/0.png": encode_png(frame)}))
        Library(made.console.database, made.console.home.path).register("test", {}, {DIGEST: BundleFile("cap", path)})
        until(lambda: made.console.json("/api/counts")["total"] == 6, made.console.said)
        with made.beating():
            yield made


def _context(
    browser: Browser, station: Inspected, role: Role | None = Role.ADMIN, size: tuple[int, int] = DESK, **more: Any
) -> BrowserContext:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **more)
    context.set_default_timeout(10_000)
    console = station.console
    if role is not None:
        signed_in.sign_in(context, console.url, "st", console.database, console.home.path, role)
    return context


@pytest.fixture
def page(chromium: Browser, station: Inspected) -> Iterator[Page]:
    context = _context(chromium, station, base_url=station.console.url)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert faults == []


def _first(station: Inspected, judgement: Judgement = REJECT) -> str:
    found: Any = station.console.json(f"/api/parts?verdicts={judgement}&product=bracket")
    return str(found["parts"][0]["part_id"])


def _lesson(station: Inspected) -> str:
    teaching = Teaching(station.console.database, station.console.home)
    for known in teaching.lessons.all():
        return known.id
    lesson = teaching.begin("test", "bracket", "top", Collecting())
    for number in range(6):
        teaching.lessons.add(lesson.id, f"{number}.png", encode_png(np.full((64, 64, 3), 40 * number, np.uint8)))
    teaching.close()
    return lesson.id


def _paths(station: Inspected) -> list[str]:
    part = f"/parts/{_first(station)}"
    pages = ["/", "/defects", "/defects?when=custom&camera=top", "/defects?when=all&product=none", part, "/alarms"]
    pages += [
        f"{part}/similar/top/0",
        "/review",
        "/statistics",
        "/recipes",
        "/teach",
        f"/teach/{_lesson(station)}",
        "/people",
        "/password",
        "/nowhere",
    ]
    return pages


def test_pages_are_for_everybody_fit_and_are_light(chromium: Browser, station: Inspected) -> None:
    environment("axe-core")
    axe = (Path(FOLDER) / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    context = _context(chromium, station, color_scheme="light", base_url=station.console.url)
    page = context.new_page()
    faults = []
    for path in (*_paths(station), "/sign-in"):
        if path == "/sign-in":
            context.clear_cookies()
        page.goto(path)
        page.wait_for_timeout(150)  # what scripts draw
        weight = page.evaluate(_WEIGHT)
        found = [] if 0 < weight < LIMIT_BYTES else [f"weighs {weight} bytes"]
        page.evaluate(axe)  # the devtools' way in: the page's own policy would refuse it
        found += page.evaluate(_AXE, []) + page.evaluate(_SMALL)
        page.emulate_media(color_scheme="dark")
        found += page.evaluate(_AXE, ["color-contrast"])
        page.emulate_media(color_scheme="light")
        for width_px, height_px in (DESK, PHONE):
            page.set_viewport_size({"width": width_px, "height": height_px})
            wide_px = page.evaluate("document.documentElement.scrollWidth")
            found += [f"is {wide_px} px wide on {width_px}"] if wide_px > width_px else []
        page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
        faults += [f"{path}: {fault}" for fault in found]
    context.close()
    assert faults == []


def test_language_is_the_browsers_until_one_is_chosen(chromium: Browser, station: Inspected) -> None:
    context = _context(chromium, station, locale="ko-KR", base_url=station.console.url)
    page = context.new_page()
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator("#light .state")).to_have_text("가동 중")
    expect(page.locator("nav [aria-current]")).to_have_text("실시간")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#light .state")).to_have_text("Running")
    page.goto("/defects")
    expect(page.locator("nav [aria-current]")).to_have_text("Defects")
    context.close()


def test_light_and_dark_are_remembered(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.goto("/alarms")
    light = page.evaluate(ground)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.goto("/defects")
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate(ground) == light


def test_an_alarm_is_acknowledged_once_for_everybody(page: Page, chromium: Browser, station: Inspected) -> None:
    looking = _context(chromium, station, Role.VIEWER, base_url=station.console.url)
    other = looking.new_page()
    other.goto("/")
    page.goto("/")
    expect(page.locator("#alarms li")).to_contain_text("plc down")
    expect(page.locator("#alarms li")).to_contain_text("does not answer <b>")
    expect(other.locator("#alarms li")).to_have_count(1)
    expect(other.locator("#alarms button")).to_have_count(0)
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#alarms .told")).to_contain_text("seen by test-admin")
    expect(page.locator("#alarms button")).to_have_count(0)
    expect(other.locator("#alarms .told")).to_contain_text("seen by test-admin")
    looking.close()
    page.goto("/alarms")
    row = page.locator("tbody tr", has_text="plc down")
    expect(row).to_contain_text("test-admin")
    page.get_by_role("link", name="Information").click()
    expect(page.locator("tbody tr", has_text="plc down")).to_have_count(0)


def test_the_shift_is_counted_by_product(page: Page, station: Inspected) -> None:
    page.goto("/")
    rows = page.locator("#shift tbody tr")
    expect(rows.filter(has_text="board").locator("td").first).to_have_text("1")
    before = int(rows.filter(has_text="bracket").locator("td").first.inner_text())
    station.line.part(PASS)
    expect(rows.filter(has_text="bracket").locator("td").first).to_have_text(str(before + 1))
    expect(page.locator("#shift header")).to_contain_text(re.compile(r"(Early|Late|Night), from \d\d:00 to \d\d:00"))


def test_last_parts_can_be_those_of_one_camera(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Camera").select_option("bottom")
    expect(page.locator("#recent .card.is-REJECT img").first).to_have_attribute("src", re.compile("/bottom/"))
    page.get_by_label("Camera").select_option("top")
    expect(page.locator("#recent .card.is-REJECT img").first).to_have_attribute("src", re.compile("/top/"))


def test_what_is_filtered_can_be_taken_away(page: Page, station: Inspected) -> None:
    page.goto("/defects?verdict=REJECT&product=bracket")
    expect(page.locator("#rows .thumb .heat[width]").first).to_be_visible()
    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("andon export --as coco")
    expect(dialog).to_contain_text("--product bracket")
    with page.expect_download() as downloaded:
        dialog.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(downloaded.value.path()).read_text(encoding="utf-8"))))
    counts: Any = station.console.json("/api/counts?verdicts=REJECT&product=bracket")
    assert len(rows) == counts["total"]
    assert {row["verdict"] for row in rows} == {"REJECT"}
    assert all(int(row["defects"]) >= 1 for row in rows)
    dialog.get_by_label("COCO").check()
    dialog.get_by_role("button", name="Make it").click()
    with page.expect_download() as downloaded:
        dialog.get_by_role("link", name="st-coco.zip").click(timeout=20_000)
    with zipfile.ZipFile(downloaded.value.path()) as packed:
        annotations = json.loads(packed.read("st-coco/annotations.json"))
        assert packed.testzip() is None
        pictures = {name for name in packed.namelist() if "/images/" in name}
    assert pictures == {f"st-coco/{image['file_name']}" for image in annotations["images"]}
    assert len({image["part_id"] for image in annotations["images"]}) == counts["total"]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_an_export_that_cannot_be_says_why_and_is_nobody_elses(
    page: Page, chromium: Browser, station: Inspected
) -> None:
    page.goto("/defects?when=all")
    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("MVTec AD").check()
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.locator(".fault")).to_contain_text("one product and one camera are learnt at a time", timeout=20_000)
    listed: Any = page.request.get("/api/exports").json()
    looking = _context(chromium, station, Role.VIEWER, base_url=station.console.url)
    assert looking.request.get("/api/exports").status == 403
    assert looking.request.get("/defects").text().count("data-begin") == 0
    looking.close()
    other = _context(chromium, station, Role.OPERATOR, base_url=station.console.url)
    assert other.request.get("/api/exports").json() == []
    picks, ours = "/api/exports/picks?product=bracket&camera=top", {"Origin": station.console.url}
    assert other.request.post(picks, headers=ours).status == 403
    begun = page.request.post(picks, headers=ours).json()
    until(lambda: page.request.get(f"/api/exports/{begun['id']}").json()["standing"]["ended"], station.console.said)
    ended = page.request.get(f"/api/exports/{begun['id']}").json()["standing"]
    assert "no good image is picked" in ended["fault"]
    failed = {one["id"] for one in listed if one["standing"]["fault"]} | {begun["id"]}
    left = {path.name.removesuffix(".partial") for path in (station.console.home.path / "exports-under-way").iterdir()}
    assert len(failed) > 1
    assert not failed & left, "nothing is left of one that failed"
    assert other.request.get(f"/api/exports/{listed[0]['id']}/file").status == 404
    other.close()
    own = f"/api/exports/{listed[0]['id']}"
    assert page.request.get(f"{own}/file").status == 409
    assert page.request.delete(own, headers={"Origin": station.console.url}).status == 204
    assert page.request.get(own).status == 404


def test_a_session_that_ends_in_mid_action_loses_nothing(chromium: Browser, station: Inspected) -> None:
    context = _context(chromium, station, Role.OPERATOR, base_url=station.console.url, locale="ko-KR")
    page = context.new_page()
    page.goto("/defects?verdict=REJECT")
    page.locator("#export").click()
    context.clear_cookies()
    page.locator(".taking button").click()
    expect(page.locator(".taking .fault")).to_contain_text("세션이 끝났습니다")
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert").get_by_role("link", name="다시 로그인")).to_have_attribute("target", "_blank")
    console = station.console
    signed_in.sign_in(context, console.url, "st", console.database, console.home.path, Role.OPERATOR)
    page.locator("#export").click()
    page.locator(".taking button").click()
    expect(page.locator(".taking .told button, .taking .told a").first).to_be_visible()
    expect(page.locator("#over")).to_have_count(0)
    context.close()


def test_a_view_is_compared_with_a_golden_sample(page: Page, station: Inspected) -> None:
    page.goto(f"/parts/{_first(station)}")
    view = page.locator(".view").first
    view.get_by_text("Compare with a good one").click()
    view.get_by_label("Golden sample 1").check()
    good = view.locator(".picture .good")
    expect(good).to_have_js_property("naturalWidth", 320)
    view.get_by_label("Share of the good one").fill("20")
    assert "80%" in good.evaluate("image => image.style.clipPath")
    view.get_by_label("Side by side").check()
    boxes = [view.locator(f".picture .{name}").bounding_box() for name in ("own", "good")]
    assert boxes[0]
    assert boxes[1]
    assert boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"]
    assert abs(boxes[1]["width"] - boxes[0]["width"]) < 2
    view.get_by_label("Blink").check()
    expect(good).to_be_hidden()
    expect(good).to_be_visible()
    view.get_by_text("Compare with a good one").click()
    expect(good).to_have_count(0)


def test_similar_defects_are_found_and_lead_to_their_parts(page: Page, station: Inspected) -> None:
    page.goto(f"/parts/{_first(station)}")
    page.get_by_role("link", name="Similar to region 1").click()
    found = page.locator(".gallery a")
    expect(found).not_to_have_count(0)
    href = found.first.get_attribute("href")
    found.first.click()
    page.wait_for_url(f"**{href}")
    answer: Any = station.console.json(f"/api/parts/{_first(station)}/views/top/regions/0/similar")
    assert [one["apart"] for one in answer] == sorted(one["apart"] for one in answer)
    assert all(one["defect"]["part_id"] != _first(station) for one in answer)


def test_a_part_tells_what_people_did(page: Page, station: Inspected) -> None:
    from storage.reviews import Reviews  # noqa: PLC0415 - of this test alone

    part = _first(station, REVIEW)
    reviews = Reviews(station.console.database, station.console.home.path)
    reviews.add(part, "DEFECT", "mina", defect_class="scratch", comment="<script>alert(1)</script>")
    reviews.hold(part, "for the customer", "mina")
    reviews.close()
    page.goto(f"/parts/{part}")
    expect(page.locator(".notice")).to_contain_text("for the customer")
    expect(page.locator("main")).to_contain_text("<script>alert(1)</script>")
    expect(page.locator(".trail li")).to_have_count(2)
    expect(page.locator(".trail")).to_contain_text("mina")


def test_keyboard_reaches_everything(page: Page) -> None:
    page.goto("/defects")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    row = page.locator("#rows .row").first
    row.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    href = row.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{href}")
