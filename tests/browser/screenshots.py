"""Pictures of pages for the manual: `make screenshots` runs this, and nothing else does; others make their own.

The parts are played by `console_process.py`; each picture is a PNG of at most 150 kB.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import signed_in
from console_process import Inspected, inspected
from live_servers import Servers
from PIL import Image
from playwright.sync_api import Browser
from storage_process import until

from config import events
from config.messages import Judgement
from storage.reviews import Reviews

PASS, REJECT, REVIEW, FAULT = Judgement
LIMIT_BYTES = 150_000
DESK, PHONE = (1024, 768), (390, 844)
_PARTS = (PASS, PASS, REJECT, PASS, PASS, REVIEW, PASS, PASS, REJECT, PASS)
_SETTLED_MS = 2_500


@pytest.fixture(scope="module")
def station(running_servers: Servers) -> Iterator[Inspected]:
    running_servers.ready()
    with inspected(running_servers) as made:
        for number in range(60):
            judgement = FAULT if number == 31 else _PARTS[number % len(_PARTS)]
            made.line.part(judgement, "bracket" if number % 3 else "board")
        until(lambda: made.console.json("/api/counts")["total"] == 60, made.console.said)
        with made.beating():
            yield made


def test_pictures_of_every_page(chromium: Browser, station: Inspected) -> None:
    folder = Path(os.environ.get("ANDON_SCREENSHOTS", "docs/images"))
    folder.mkdir(parents=True, exist_ok=True)
    console = station.console
    found: Any = console.json("/api/parts?verdicts=REJECT&product=bracket")
    part = found["parts"][1]["part_id"]
    reviews = Reviews(console.database, console.home.path)
    reviews.add(part, "DEFECT", "mina", defect_class="scratch", comment="seen by eye")
    reviews.close()
    for name, path, size, scheme, locale in (
        ("live", "/", DESK, "light", "en"),
        ("live-dark", "/", DESK, "dark", "en"),
        ("live-korean", "/", DESK, "light", "ko"),
        ("live-phone", "/", PHONE, "dark", "en"),
        ("live-alarm", "/", DESK, "light", "en"),
        ("alarms", "/alarms", DESK, "light", "en"),
        ("defects", "/defects", DESK, "light", "en"),
        ("defects-dark", "/defects?camera=top", DESK, "dark", "en"),
        ("defects-phone", "/defects", PHONE, "light", "ko"),
        ("part", f"/parts/{part}", DESK, "light", "en"),
        ("part-dark", f"/parts/{part}", DESK, "dark", "en"),
        ("part-phone", f"/parts/{part}", PHONE, "light", "en"),
        ("similar", f"/parts/{part}/similar/top/0", DESK, "light", "en"),
        ("review", "/review", DESK, "light", "en"),
        ("people", "/people", DESK, "light", "en"),
        ("export", "/defects", DESK, "light", "en"),
    ):
        if name == "live-alarm":
            detail = "modbus 192.0.2.5:502 does not answer: connection refused"
            station.line.say("decision", state="DEGRADED", detail="the PLC is away")
            station.line._sender.send(events.began("st", "decision", "plc_down", "ALARM", detail), [])
            station.line._sender.finish()
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
            locale=locale,
            base_url=console.url,
        )
        signed_in.sign_in(context, console.url, "st", console.database, console.home.path)
        page = context.new_page()
        page.goto(path)
        if name == "export":
            page.get_by_role("button", name="Export").click()
        page.wait_for_timeout(_SETTLED_MS)
        picture = folder / f"console-{name}.png"
        pixels = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        # by octree, which keeps the few colours that matter; the median cut turns the violet of a fault to gray
        pixels.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(picture, optimize=True)
        context.close()
        assert picture.stat().st_size <= LIMIT_BYTES, picture
