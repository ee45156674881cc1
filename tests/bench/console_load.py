"""What a console full of people costs the line: `PYTHONPATH=tests python tests/bench/console_load.py`, JSON on stdout.

The demo runs at its usual speed. In turns there is nobody, and there are viewers, who follow the live page, and
reviewers, who go from page to page as a browser does: a page, its pictures unless it has them, what its scripts ask
for, and a second or two to look. Told are the times of each kind of answer, and from trigger to gate with and without
people, by the database, phase by phase: what differs between phases of one kind is noise. With `--rows` the database
begins with the history of that many parts; with `--pages` a browser opens each page at the end (`pages.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from random import Random
from statistics import median
from urllib.parse import urlencode, urlsplit

import signed_in
from pages import pages
from station_process import StationProcess

from deploy.bench import history
from deploy.bench.history import History
from deploy.bench.query import LOADING, running
from deploy.servers import Postgres
from storage.migrate import migrate
from storage.people import Role
from storage.query.filters import Filter
from storage.query.service import QueryService

PAGE_TARGET_MS = 200.0
_SETTLE_S = 2.0  # at the beginning of a phase, that do not count
_THINK_S = (1.0, 2.0)
_TIMEOUT_S = 20.0
_PICTURE = re.compile(r'<img[^>]* src="(/api/images/[^"]+)"')
_ROW = re.compile(r'data-part="([^"]+)"')
_TIME = re.compile(r'data-time="([^"]+)"')
_PART = re.compile(r'href="(/parts/[^"/]+)"')
_NEXT = re.compile(r'href="(/defects\?[^"]*after=[^"]+)"')


@dataclass
class Told:
    """What all people together saw."""

    times_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    bytes_of: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    viewers_lost: int = 0


class Reviewer(threading.Thread):
    """Somebody who goes from page to page until told to stop, on one connection, keeping pictures as a browser does."""

    def __init__(self, url: str, headers: dict[str, str], told: Told, seed: int, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)
        self._headers, self._told, self._ended = headers, told, ended
        self._random = Random(seed)
        self._kept: set[str] = set()

    def run(self) -> None:
        """Look at one thing after the other."""
        ways = (self._defects, self._defects, self._defects, self._review, self._statistics, self._others)
        self._ended.wait(self._random.random() * _THINK_S[1])
        while not self._ended.is_set():
            self._random.choice(ways)()
            self._think()
        self._connection.close()

    def _defects(self) -> None:
        """Search, look at a page or two of what is found, and at a part."""
        asked = self._random.choice(_SEARCHES)
        page = self._page("defects", f"/defects?{urlencode(asked)}")
        self._maps(page)
        following = _NEXT.search(page)
        if following and self._random.random() < 0.5:
            self._think()
            page = self._page("defects_next", unescape(following[1])) or page
        parts = _PART.findall(page)
        if parts and not self._ended.is_set():
            self._think()
            path = self._random.choice(parts)
            self._page("part", path)
            self._ask("api_part", f"/api{path}")

    def _maps(self, page: str) -> None:
        parts, times = _ROW.findall(page), sorted(_TIME.findall(page))
        if parts and times:
            asked = [("since", times[0]), ("until", times[-1]), *(("part", part) for part in parts)]
            self._ask("api_maps", f"/api/maps?{urlencode(asked)}")

    def _review(self) -> None:
        self._page("review", "/review")
        self._ask("api_review_queue", "/api/review/queue?limit=8")

    def _statistics(self) -> None:
        self._page("statistics", "/statistics")
        for panel in ("chart", "shares", "pareto", "places", "scores"):
            camera = "?camera=front" if panel == "places" else ""
            self._ask(f"api_{panel}", f"/api/statistics/{panel}{camera}")

    def _others(self) -> None:
        name, path = self._random.choice(_OTHERS)
        self._page(name, path)

    def _page(self, name: str, path: str) -> str:
        """Ask for a page, and for those of its pictures that are not there yet."""
        page = self._ask(name, path)
        for picture in map(unescape, _PICTURE.findall(page)):
            if picture not in self._kept and not self._ended.is_set():
                self._kept.add(picture)
                self._ask("picture", picture)
        return page

    def _ask(self, name: str, path: str) -> str:
        began_s = time.perf_counter()
        try:
            self._connection.request("GET", path, headers=self._headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._told.faults[f"{name}: {type(error).__name__}"] += 1
            return ""
        if answer.status != http.client.OK:
            self._told.faults[f"{name}: {answer.status} {body[:120]!r}"] += 1
            return ""
        self._told.times_ms[name].append((time.perf_counter() - began_s) * 1e3)
        self._told.bytes_of[name].append(len(body))
        return body.decode("utf-8", "replace") if answer.headers.get_content_maintype() == "text" else ""

    def _think(self) -> None:
        self._ended.wait(self._random.uniform(*_THINK_S))


class Viewers(threading.Thread):
    """People who follow the live page: each has its own connection, all are read here."""

    def __init__(self, url: str, headers: dict[str, str], told: Told, number: int, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        where = urlsplit(url)
        self._address = (where.hostname or "127.0.0.1", where.port or 80)
        lines = [f"{name}: {value}" for name, value in {"Host": where.netloc, **headers}.items()]
        self._request = "\r\n".join(["GET /events HTTP/1.1", *lines, "Accept: text/event-stream", "", ""]).encode()
        self._told, self._number, self._ended = told, number, ended

    def run(self) -> None:
        """Count the events that come."""
        with contextlib.ExitStack() as closing, selectors.DefaultSelector() as selector:
            for _ in range(self._number):
                connection = closing.enter_context(socket.create_connection(self._address, _TIMEOUT_S))
                connection.sendall(self._request)
                selector.register(connection, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(0.2):
                    assert isinstance(key.fileobj, socket.socket)
                    said = key.fileobj.recv(1 << 16)
                    self._told.events += said.count(b"\n\n")
                    if not said:
                        self._told.viewers_lost += 1
                        selector.unregister(key.fileobj)


_SEARCHES: tuple[dict[str, object], ...] = (
    {"when": "hour"},
    {"when": "today"},
    {"when": "all"},
    {"when": "all", "product": "cap"},
    {"when": "all", "product": "bracket", "verdict": "REJECT"},
    {"when": "all", "score_min": 1.5},
    {"when": "all", "area_min_px": 200},
    {"when": "all", "verdict": "PASS", "gate_confirmed": "true"},
    {"when": "all", "review": "unreviewed"},
    {"when": "all", "x_min": 0.2, "x_max": 0.4, "y_min": 0.2, "y_max": 0.4},
)
_OTHERS = (
    ("live", "/"),
    ("alarms", "/alarms"),
    ("recipes", "/recipes"),
    ("api_parts", "/api/parts?limit=50"),
    ("api_counts", "/api/counts"),
    ("api_rates", "/api/rates?bucket=hour"),
)


@dataclass(frozen=True)
class Phase:
    """A time in which there are people, or not."""

    loaded: bool
    since: datetime
    until: datetime
    console_cpu_share: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--reviewers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5, help="of a phase without and a phase with them")
    parser.add_argument("--phase-s", type=float, default=30)
    parser.add_argument("--rows", type=int, default=0, help="parts of the history that the database begins with")
    parser.add_argument("--pages", action="store_true", help="time each page in a browser, too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="andon-bench-", dir="/var/tmp") as name:  # /tmp may be memory
        folder = Path(name)
        folder.chmod(0o755)  # the servers' account must be able to enter
        home = folder / "home"
        home.mkdir(mode=0o755)
        if chosen.rows:
            _fill(home, chosen.rows)
        station = StationProcess(home)
        try:
            station.wait_running()
            os.nice(19)  # people's browsers run on machines of their own
            json.dump(_measure(station, home, chosen), sys.stdout, indent=2)
        finally:
            station.stop()


def _fill(home: Path, rows: int) -> None:
    server = Postgres(home)
    with running(server, *LOADING):
        migrate(server.url)
        history.make(server.url, History(rows), _say)


def _measure(station: StationProcess, home: Path, chosen: argparse.Namespace) -> dict[str, object]:
    url = next(found[0] for line in station.screen if (found := re.findall(r"console at (\S+)", line)))
    database = Postgres(home).url
    viewer, operator = (signed_in.bearer(database, home, role) for role in (Role.VIEWER, Role.OPERATOR))
    told = Told()
    phases: list[Phase] = []
    time.sleep(_SETTLE_S)
    for number in range(chosen.rounds):
        phases.append(_phase(station, chosen.phase_s, loaded=False))
        ended = threading.Event()
        people: list[threading.Thread] = [Viewers(url, viewer, told, chosen.viewers, ended)]
        seeds = range(number * chosen.reviewers, (number + 1) * chosen.reviewers)
        people += [Reviewer(url, operator, told, seed, ended) for seed in seeds]
        for person in people:
            person.start()
        phases.append(_phase(station, chosen.phase_s, loaded=True))
        ended.set()
        for person in people:
            person.join()
    time.sleep(_SETTLE_S + 3)  # until the last parts' gate reports are in the database
    opened = pages(url.rstrip("/"), database, home) if chosen.pages else {}
    return {**_report(database, told, phases, chosen), "pages": opened}


def _phase(station: StationProcess, length_s: float, *, loaded: bool) -> Phase:
    time.sleep(_SETTLE_S)
    since, cpu_s, began_s = datetime.now(UTC), _cpu_s(station), time.monotonic()
    time.sleep(length_s)
    share = (_cpu_s(station) - cpu_s) / (time.monotonic() - began_s)
    _say("a phase with people" if loaded else "a phase without")
    return Phase(loaded, since, datetime.now(UTC), share)


def _cpu_s(station: StationProcess) -> float:
    """Return how long the console has been on a core."""
    (pid,) = station.pids("console")
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _report(database: str, told: Told, phases: list[Phase], chosen: argparse.Namespace) -> dict[str, object]:
    gates_ms: dict[bool, list[list[float]]] = {False: [], True: []}
    verdicts: Counter[str] = Counter()
    service = QueryService(database)
    for phase in phases:
        span = Filter(since=phase.since, until=phase.until + timedelta(microseconds=1))
        parts = list(service.stream(span))
        verdicts.update(part.verdict for part in parts)
        gates_ms[phase.loaded].append([ms for part in parts if (ms := part.trigger_to_gate_ms) is not None])
    service.close()
    pages = {
        name: {
            "answers": len(times),
            "p50_ms": round(median(times), 1),
            "p95_ms": round(_share(times, 0.95), 1),
            "max_ms": round(max(times), 1),
            "bytes_p50": round(median(told.bytes_of[name])),
        }
        for name, times in sorted(told.times_ms.items(), key=lambda item: -_share(item[1], 0.95))
    }
    gate = {
        "with_people" if loaded else "without": {
            "parts": sum(map(len, found)),
            "p50_ms": round(_share([ms for phase in found for ms in phase], 0.5), 2),
            "p99_ms": round(_share([ms for phase in found for ms in phase], 0.99), 2),
            "p99_ms_by_phase": [round(_share(phase, 0.99), 2) for phase in found],
            "console_cores": round(median(phase.console_cpu_share for phase in phases if phase.loaded == loaded), 3),
        }
        for loaded, found in gates_ms.items()
    }
    slow = [name for name, times in told.times_ms.items() if _share(times, 0.95) >= PAGE_TARGET_MS]
    return {
        "viewers": chosen.viewers,
        "reviewers": chosen.reviewers,
        "rows": chosen.rows,
        "phases": len(phases),
        "phase_s": chosen.phase_s,
        "trigger_to_gate": gate,
        "verdicts": dict(verdicts),
        "answers": pages,
        "slower_than_target": slow,
        "faults": dict(told.faults.most_common(20)),
        "events": told.events,
        "viewers_lost": told.viewers_lost,
    }


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")


def _share(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


if __name__ == "__main__":
    main()
