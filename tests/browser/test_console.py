"""The console in a real browser, on parts that have gone the real way through storage, PostgreSQL and Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import signed_in
from console_process import REJECT_ABOVE, Inspected, inspected
from live_servers import Servers
from playwright.sync_api import Browser, Page, expect
from storage_process import until

from config.messages import Judgement

PASS, REJECT, REVIEW, FAULT = Judgement
LIMIT_BYTES = 300_000
_PAINTED = """canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return copy.getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
}"""
_WEIGHT = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
_CONTRAST = """selector => {
    const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
        return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    };
    const element = document.querySelector(selector);
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
    const [a, b] = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(light);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@dataclass
class Watched:
    """A page whose faults are kept; the test that expects one names it in `forgiven`."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    forgiven: str = "nothing"

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def check(self) -> None:
        assert [fault for fault in self.faults if not re.search(self.forgiven, fault)] == []


@pytest.fixture(scope="module")
def station(running_servers: Servers) -> Iterator[Inspected]:
    """A station with enough parts for two pages of defects, whose processes go on saying that they are well."""
    running_servers.ready()
    with inspected(running_servers) as made:
        for judgement in (PASS, REJECT, PASS, REVIEW, PASS, FAULT):
            made.line.part(judgement)
        for _ in range(24):
            made.line.part(REJECT, "board")
        until(lambda: made.console.json("/api/counts")["total"] == 30, made.console.said)
        with made.beating():
            yield made


def watch(browser: Browser, station: Inspected, scheme: str, size: tuple[int, int]) -> Iterator[Watched]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
    )
    context.set_default_timeout(10_000)
    console = station.console
    signed_in.sign_in(context, console.url, console.station.station, console.database, console.home.path)
    watched = Watched(context.new_page(), station.console.url)
    page, faults = watched.page, watched.faults
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith(watched.url + "/") else faults.append(sent.url))
    yield watched
    context.close()
    watched.check()


@pytest.fixture
def watched(chromium: Browser, station: Inspected) -> Iterator[Watched]:
    yield from watch(chromium, station, "light", (1280, 800))


def test_parts_arrive_as_they_are_judged(watched: Watched, station: Inspected) -> None:
    page = watched.open("/")
    expect(page.locator("#recent .card")).not_to_have_count(0)
    rejected = station.console.json("/api/counts")["verdicts"]["REJECT"]
    expect(page.locator("#count-REJECT")).to_have_text(str(rejected))  # Redis may be behind PostgreSQL
    part_id = station.line.part(REJECT)
    card = page.locator(f"#recent .card[href='/parts/{part_id}']")
    expect(card.locator(".word")).to_have_text("Reject")
    expect(card.locator(".gate")).to_have_text("ejected")
    assert float(card.locator(".score").inner_text()) > REJECT_ABOVE
    expect(page.locator("#latest .card.large")).to_have_attribute("href", f"/parts/{part_id}")
    expect(page.locator("#count-REJECT")).to_have_text(str(rejected + 1))
    expect(page.locator("#light")).to_have_class("light is-RUNNING")
    assert page.locator("#strip .is-REJECT .bar").count() == rejected + 1
    picture = card.locator(".picture")
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 100", arg=picture.locator("img").element_handle()
    )
    expect(picture.locator("rect").first).to_be_visible()
    page.wait_for_function(_PAINTED, arg=picture.locator("canvas").element_handle())


def test_overlay_can_be_switched_off_and_stays_off(watched: Watched, station: Inspected) -> None:
    station.line.part(REJECT)
    page = watched.open("/")
    boxes = page.locator("#latest .boxes").first
    expect(boxes).to_be_visible()
    page.get_by_label("Overlay").uncheck()
    expect(boxes).to_be_hidden()
    page.reload()
    expect(page.locator("#latest .card")).to_be_visible()
    expect(page.locator("#latest .boxes").first).to_be_hidden()
    page.get_by_label("Overlay").check()
    page.wait_for_function(_PAINTED, arg=page.locator("#latest .heat").first.element_handle())


def test_parts_that_passed_can_be_left_out(watched: Watched, station: Inspected) -> None:
    page = watched.open("/")
    station.line.part(PASS)
    expect(page.locator("#recent .is-PASS")).not_to_have_count(0)
    page.get_by_label("Not passed").check()
    expect(page.locator("#recent .is-PASS")).to_have_count(0)
    expect(page.locator("#recent .is-REJECT")).not_to_have_count(0)


def test_redis_may_die_and_come_back(watched: Watched, station: Inspected) -> None:
    watched.forgiven = "503"  # the fleeting picture of a part that had just come
    page = watched.open("/")
    expect(page.locator("#light .state")).not_to_have_text("Connecting")
    counted = page.locator("#count-PASS").inner_text()
    station.servers.valkey.kill()
    expect(page.locator("#light .state")).to_have_text("Live view away")
    expect(page.locator("#light .causes")).to_contain_text("trying again")
    expect(page.locator("#count-PASS")).to_have_text(counted)
    station.servers.ready()
    for _ in range(20):
        part_id = station.line.part(REVIEW)
        page.wait_for_timeout(500)
        if page.locator(f"#recent .card[href='/parts/{part_id}']").count():
            break
    expect(page.locator("#light .state")).to_have_text("Running")
    expect(page.locator(f"#recent .card[href='/parts/{part_id}']")).to_be_visible()


def test_console_may_die_and_come_back(watched: Watched, station: Inspected) -> None:
    watched.forgiven = "ERR_|EventSource"
    page = watched.open("/")
    expect(page.locator("#light .state")).not_to_have_text("Connecting")
    port = station.console.port
    station.console.kill()
    expect(page.locator("#light .state")).to_have_text("Connection lost", timeout=10_000)
    station.console.start(port)
    station.line.part(PASS)
    expect(page.locator("#light .state")).to_have_text("Running", timeout=15_000)


def test_defects_are_filtered_and_the_address_says_how(watched: Watched) -> None:
    page = watched.open("/defects")
    expect(page.locator("#rows .row")).to_have_count(24)
    page.get_by_role("link", name="Load more").click()
    expect(page.locator("#rows .row")).not_to_have_count(24)
    assert page.locator("#rows .row").evaluate_all("rows => new Set(rows.map((row) => row.href)).size === rows.length")
    page.locator(".verdicts").get_by_label("Reject").uncheck()
    page.wait_for_url("**/defects?*verdict=REVIEW*")
    expect(page.locator("#rows .is-REJECT")).to_have_count(0)
    expect(page.locator("#rows .is-REVIEW").first).to_be_visible()
    page.get_by_label("Product").first.select_option("bracket")
    page.wait_for_url("**/defects?*product=bracket*")
    page.get_by_label("Score from").fill("1.7")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/defects?*score_min=1.7*")
    expect(page.locator("#rows .is-FAULT")).to_have_count(0)
    total, address = page.locator(".total").inner_text(), page.url
    again = page.context.new_page()
    again.goto(address)
    assert again.locator(".total").inner_text() == total
    expect(again.get_by_label("Product").first).to_have_value("bracket")
    again.close()


def test_chosen_times_and_nothing_found(watched: Watched) -> None:
    page = watched.open("/defects")
    expect(page.get_by_label("From", exact=True)).to_be_hidden()
    page.get_by_label("Custom").check()
    page.get_by_label("From", exact=True).fill("2020-01-01T00:00")
    page.get_by_label("To", exact=True).fill("2020-01-02T00:00")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/defects?*until=2020-01-02T00%3A00*")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("link", name="Look through all times").click()
    expect(page.locator("#rows .row").first).to_be_visible()


def test_part_page_shows_everything(watched: Watched) -> None:
    page = watched.open("/defects?verdict=REJECT&product=bracket")
    row = page.locator("#rows .row").last
    part_id = row.locator(".id").inner_text()
    expect(row.locator("img")).to_have_js_property("complete", value=True)
    row.click()
    page.wait_for_url(f"**/parts/{part_id}")
    expect(page.locator("h1")).to_contain_text("Reject")
    top = page.locator(".view").first
    expect(top.locator("h2")).to_have_text("top")
    expect(top.locator(".regions tbody tr").first).to_be_visible()
    expect(top.locator(".limits")).to_contain_text("reject above 2.000")
    page.wait_for_function(_PAINTED, arg=top.locator(".heat").element_handle())
    for text in ("sha256:5f5f", "worker-0, batch of 2", "bracket, version 3", "ejected", "of 500.0 ms"):
        expect(page.locator("main")).to_contain_text(text)


def test_nonsense_is_explained_and_database_away_is_a_page_that_tries_again(
    watched: Watched, station: Inspected
) -> None:
    watched.forgiven = "503|422"
    page = watched.open("/defects?score_min=much")
    expect(page.locator(".detail")).to_contain_text("score_min")
    station.servers.postgres.kill()
    watched.open("/defects")
    expect(page.get_by_role("heading", name="The database is away")).to_be_visible()
    watched.open("/")
    station.line.part(PASS)
    expect(page.locator("#backlog")).to_contain_text("s behind. Nothing is lost")
    station.servers.ready()
    expect(page.locator("#backlog")).to_be_hidden()
    watched.open("/defects")
    expect(page.locator("#rows .row").first).to_be_visible()


@pytest.mark.parametrize(("size", "scheme"), [((1024, 768), "light"), ((390, 844), "dark"), ((1920, 1080), "dark")])
def test_pages_fit_are_light_and_can_be_read(
    chromium: Browser, station: Inspected, size: tuple[int, int], scheme: str
) -> None:
    part_id = station.line.part(REJECT)
    for watched in watch(chromium, station, scheme, size):
        grounds = []
        for path, shown in (("/", "#latest .card img"), ("/defects", "#rows .row"), (f"/parts/{part_id}", ".heat")):
            page = watched.open(path)
            expect(page.locator(shown).first).to_be_visible()
            page.wait_for_load_state()
            page.wait_for_timeout(400)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size[0], f"{path} is {width} px wide on {size[0]}"
            weight = page.evaluate(_WEIGHT)
            assert 0 < weight < LIMIT_BYTES, f"{path} weighs {weight} bytes"
            for selector in (".chip", "footer", "main small"):
                ratio = page.evaluate(_CONTRAST, selector)
                assert ratio >= 4.5, f"{path}: {selector} has a contrast of {ratio:.1f}"
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(set(grounds)) == 1
        assert (grounds[0] == "rgb(12, 15, 19)") == (scheme == "dark")
