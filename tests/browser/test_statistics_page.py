"""The Statistics page in a real browser, on four weeks of made-up parts and some that have gone the real way.

ANDON_SCREENSHOTS names a folder that pictures of the page are written to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import signed_in
from console_process import ConsoleProcess, Line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import Servers
from playwright.sync_api import Browser, Page, expect
from storage_process import storage, until

from config.messages import Judgement
from deploy.bench import history
from deploy.bench.history import History

PARTS = 8_000
ALL = "/statistics?when=all&period=day"
_PAINTED = """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"""
_ONE_POINT = """async () => {
    const script = [...document.scripts].find(({ src }) => src.endsWith('/statistics.js')).src;
    const { chart } = await import(new URL('chart.js', script));
    const lines = [{ label: 'x', values: [1], look: 'value' }];
    const times = ['2026-01-01T06:00:00Z'];
    const plot = chart(document.getElementById('control'), { times, lines, format: String });
    await new Promise(requestAnimationFrame);
    return [plot.scales.x.min, plot.scales.x.max];
}"""
_WEIGHT = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .filter((entry) => !entry.name.includes('/api/images/')).reduce((sum, entry) => sum + entry.transferSize, 0)"""


@dataclass
class Shown:
    """A page of the console whose faults are kept."""

    page: Page
    console: ConsoleProcess
    faults: list[str]

    def open(self, path: str) -> Page:
        self.page.goto(self.console.url + path)
        expect(self.page.locator("#control-told")).not_to_have_text("Loading")
        return self.page


@pytest.fixture(scope="module")
def console(running_servers: Servers) -> Iterator[ConsoleProcess]:
    running_servers.ready()
    with storage(running_servers) as kept:
        history.make(kept.database, History(PARTS, timedelta(minutes=5)))
        served = ConsoleProcess(kept)
        line = Line(kept, served.station)
        try:
            kept.start()
            served.start()
            line.part(Judgement.REJECT)
            until(lambda: kept.stored("verdict") == PARTS + 1, kept.said)
            yield served
        finally:
            served.kill()


def shown(
    chromium: Browser, console: ConsoleProcess, size: tuple[int, int] = (1024, 768), scheme: str = "light"
) -> Iterator[Shown]:
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
    )
    context.set_default_timeout(10_000)
    signed_in.sign_in(context, console.url, console.station.station, console.database, console.home.path)
    made = Shown(context.new_page(), console, [])
    page = made.page
    page.on("console", lambda said: made.faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: made.faults.append(str(error)))
    yield made
    context.close()
    assert made.faults == []


@pytest.fixture
def seen(chromium: Browser, console: ConsoleProcess) -> Iterator[Shown]:
    yield from shown(chromium, console)


def test_every_figure_is_drawn_and_says_of_how_many_it_is(seen: Shown) -> None:
    page = seen.open(ALL)
    expect(page.locator("#control-told")).to_contain_text(re.compile(r"^8.001 in \d+ points, "))
    expect(page.locator("#control-told")).to_contain_text("Middle ")
    canvas = page.locator("#control canvas")
    page.wait_for_function(_PAINTED, arg=canvas.element_handle())
    page.wait_for_function(_PAINTED, arg=page.locator("#scores canvas").element_handle())
    expect(page.locator("#pareto svg a")).to_have_count(3)  # and defects without a class, which cannot be looked for
    expect(page.locator("#pareto polyline")).to_have_count(1)
    assert page.locator("#places svg a").count() > 20
    for name in ("pareto", "places", "scores"):
        expect(page.locator(f"#{name}-told")).to_contain_text("n = ")
    expect(page.locator("#shares-table tbody tr")).to_have_count(6)
    page.locator(".control summary", has_text="As a table").click()
    expect(page.locator("#control-table tbody tr").first).to_be_visible()
    assert page.evaluate(_WEIGHT) < 300_000
    page.locator("#control .u-over").hover(position={"x": 400, "y": 100})
    expect(page.locator("#control-pointed")).to_contain_text("n = ")


def test_the_axis_of_one_point_is_its_day(seen: Shown) -> None:
    page = seen.open(ALL)
    ends = page.evaluate(_ONE_POINT)
    assert ends[1] - ends[0] == 86_400


def test_choices_change_the_figures_and_the_address(seen: Shown) -> None:
    page = seen.open(ALL)
    whole = page.locator("#shares-told").inner_text()
    page.locator("[name=product]").select_option("cap")
    page.wait_for_url("**product=cap**")
    expect(page.locator("#shares-told")).not_to_have_text(whole)
    expect(page.locator("#shares-table tbody tr")).to_have_count(1)
    page.locator("#by").select_option("shift")
    expect(page.locator("#shares-table tbody tr")).to_have_count(3)
    for look in ("EWMA", "CUSUM"):
        page.get_by_label(look, exact=True).check(force=True)
        page.wait_for_function(_PAINTED, arg=page.locator("#control canvas").element_handle())
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("[name=product]")).to_have_value("cap")
    expect(page.get_by_label("CUSUM", exact=True)).to_be_checked()
    expect(page.locator("#by")).to_have_value("shift")
    page.locator("#measure").select_option("brightness")
    expect(page.locator("#control-told")).to_contain_text("name it")
    seen.faults[:] = [fault for fault in seen.faults if "422" not in fault]
    page.locator("[name=camera]").select_option("top")
    expect(page.locator("#control-told")).to_contain_text("points")


def test_a_bar_and_a_cell_lead_to_their_parts(seen: Shown) -> None:
    page = seen.open(f"{ALL}&product=bracket")
    expect(page.locator("#places img")).to_have_js_property("complete", value=True)
    page.locator("#pareto svg a").first.click()
    page.wait_for_url("**/defects?**defect_class=**")
    expect(page.locator("#rows .row").first).to_be_visible()
    assert "product=bracket" in page.url
    page = seen.open(f"{ALL}&kind=reasons")
    page.locator("#pareto svg a").first.press("Enter")
    page.wait_for_url("**/defects?**reason=**")
    expect(page.locator("#rows .row").first).to_be_visible()
    page = seen.open(ALL)
    page.locator("#places svg a").first.press("Enter")
    page.wait_for_url("**/defects?**x_min=**")
    expect(page.locator("#rows .row").first).to_be_visible()


def test_since_when_names_the_change_and_its_first_part(seen: Shown) -> None:
    page = seen.open(f"{ALL}&product=cap&measure=score")
    page.get_by_role("button", name="Since when?").click()
    expect(page.locator("#since-told")).to_contain_text("Since 2026-11-")
    page.locator("#since-told a").first.click()
    page.wait_for_url("**/parts/**")
    page.wait_for_load_state("networkidle")  # and nothing that it asks for is missing


def test_nothing_is_explained(seen: Shown) -> None:
    page = seen.open("/statistics?when=custom&since=2020-01-01T00:00&until=2020-02-01T00:00")
    for name in ("control", "pareto", "places", "shares", "scores"):
        expect(page.locator(f"#{name}-told")).to_have_text(re.compile("Nothing is stored"))
    assert page.locator("#control canvas").count() == 0


@pytest.mark.parametrize(("size", "scheme"), [((1024, 768), "light"), ((390, 844), "dark"), ((1440, 900), "dark")])
def test_the_page_fits(chromium: Browser, console: ConsoleProcess, size: tuple[int, int], scheme: str) -> None:
    for seen in shown(chromium, console, size, scheme):
        page = seen.open(f"{ALL}&product=bracket")
        expect(page.locator("#shares-table tbody tr")).not_to_have_count(0)
        page.wait_for_function(_PAINTED, arg=page.locator("#scores canvas").element_handle())
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        folder = os.environ.get("ANDON_SCREENSHOTS")
        if folder:
            page.wait_for_timeout(300)
            whole = size[0] != 1024
            page.screenshot(path=Path(folder) / f"statistics-{size[0]}.png", full_page=whole)
            if not whole:
                page.locator(".pareto").scroll_into_view_if_needed()
                page.mouse.wheel(0, 900)
                page.wait_for_timeout(200)
                page.screenshot(path=Path(folder) / "statistics-below.png")


def test_figures_are_files_for_a_spreadsheet(console: ConsoleProcess) -> None:
    for path, head in (
        ("chart?period=day", "start,end,parts,value"),
        ("pareto?kind=reasons", "name,count,share,cumulative"),
        ("places?camera=top", "column,row,count"),
        ("shares?by=product", "name,parts,PASS,REJECT,REVIEW,FAULT,rejects"),
        ("scores?period=week", "start,end,sampled,low"),
    ):
        status, headers, body = console.get(f"/api/statistics/{path}&format=csv")
        assert status == 200
        assert headers["content-type"].startswith("text/csv")
        assert body.decode().startswith(head)
        assert len(body.splitlines()) > 2


_NAMES = ["since", "until", "product", "camera", "bundle", "recipe_version", "measure", "period", "rules", "by", "kind"]
_VALUES = st.text(max_size=12) | st.integers().map(str) | st.sampled_from(["score", "focus", "day", "top", "nelson"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["chart", "shares", "pareto", "places", "scores", "since"]),
    st.lists(
        st.tuples(st.sampled_from([*_NAMES, "defect_class", "baseline_since", "what", "format"]), _VALUES), max_size=3
    ),
)
def test_any_question_is_answered_or_refused(console: ConsoleProcess, path: str, query: list[tuple[str, str]]) -> None:
    status, _, body = console.get(f"/api/statistics/{path}?{urlencode(query)}")
    assert status in {200, 422}, body
