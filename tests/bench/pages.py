"""How long each page of a running console takes until a person can use it, in a real browser that knows none of it yet.

Used by `console_load.py --pages`. A page is usable when the last thing that it asked for while opening has come: from
asking for the page to the end of its last resource; what listens (the events of Live) does not end and does not count.
"""

from __future__ import annotations

from pathlib import Path

import signed_in
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
LIMIT_MS, LIMIT_BYTES = 1000, 300_000
PATHS = (
    "/", "/defects", "/defects?when=all", "/defects?when=all&verdict=REVIEW", "/review", "/statistics",
    "/statistics?when=all", "/recipes", "/teach", "/people", "/alarms",
)  # fmt: skip
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_LOOK_MS = 2500
_TIMES = """() => {
    const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
    return [Math.max(...all.map((one) => one.responseEnd)), all.reduce((sum, one) => sum + one.transferSize, 0)];
}"""


def pages(url: str, database: str, home: Path, station: str = "demo") -> dict[str, dict[str, float]]:
    """Return of each page, and of the newest part's, how long it took and how much came."""
    told: dict[str, dict[str, float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        part = ""
        for path in (*PATHS, "a part"):
            context = browser.new_context(viewport={"width": 1024, "height": 768})
            signed_in.sign_in(context, url, station, database, home)
            page = context.new_page()
            told[path] = _visited(page, url + (part if path == "a part" else path))
            if path == "/defects":
                part = page.locator('a[href^="/parts/"]').first.get_attribute("href") or ""
            context.close()
        browser.close()
    return told


def _visited(page: Page, address: str) -> dict[str, float]:
    page.goto(address)
    page.wait_for_timeout(_LOOK_MS)
    usable_ms, weight_bytes = page.evaluate(_TIMES)
    return {"usable_ms": round(usable_ms), "bytes": weight_bytes}
