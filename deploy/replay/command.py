"""`andon replay`: judge stored parts again and tell what is not the same."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice

from config.errors import InputError
from config.home import Home, default_path
from deploy import choosing, stations
from deploy.database import database
from deploy.replay import report
from deploy.replay.findings import Account, PartFinding, Summary
from deploy.replay.judges import Judges, Others
from deploy.replay.player import Stored
from deploy.replay.player import replay as play
from inference.keys import TrustStore
from storage import store
from storage.library import Library
from storage.query.filters import Filter
from storage.query.service import QueryService
from storage.store import Store

_AT_ONCE = 64
_SHOW_NS = 2_000_000_000


def replay(arguments: argparse.Namespace) -> int:
    """Replay what is asked for; 1 where a part did not give the same again though it had to."""
    chosen = choosing.read(arguments)
    if arguments.part:
        chosen = Filter.parse(chosen.model_dump(exclude_defaults=True) | {"part_id": arguments.part})
    trust = TrustStore.load(extra=[*stations.DEMO_KEYS, *arguments.trust])
    others = Others.read(arguments.with_recipe, arguments.with_bundle, chosen.camera, trust)
    home = Home(arguments.home or default_path())
    with database(home, "replay") as url:
        query = QueryService(url, _store(home))
        library = Library(url, home.path)
        judges = Judges(library, trust, others, arguments.threads, arguments.device, arguments.precision)
        stored = islice(_stored(query, library, chosen), arguments.limit)
        found = play(stored, lambda part_id, camera: query.image(part_id, camera, "image"), judges)
        summary = _tell(found, Account(as_then=not others), as_json=arguments.json)
        query.close()
    if arguments.part and not summary.parts:
        raise InputError(f"there is no part {arguments.part}")
    return 1 if summary.failed else 0


def _tell(found: Iterator[PartFinding], account: Account, *, as_json: bool) -> Summary:
    """Write a line for each part and the summary; progress goes to stderr where that is another place."""
    began_ns = shown_ns = time.monotonic_ns()
    for number, one in enumerate(found, start=1):
        account.add(one)
        sys.stdout.write((json.dumps({"part": one.model_dump(mode="json")}) if as_json else report.line(one)) + "\n")
        now_ns = time.monotonic_ns()
        if now_ns - shown_ns > _SHOW_NS and not sys.stdout.isatty():
            shown_ns = now_ns
            sys.stderr.write(f"replay: {number} parts, {number * 1e9 / (now_ns - began_ns):.1f}/s\n")
            sys.stderr.flush()
    summary = account.summary()
    sys.stdout.write(
        json.dumps({"summary": summary.model_dump(mode="json")}) + "\n" if as_json else f"\n{report.table(summary)}\n"
    )
    sys.stdout.flush()
    return summary


def _stored(query: QueryService, library: Library, chosen: Filter) -> Iterator[Stored]:
    """Yield the parts that are meant, newest first, each with the digest of its recipe."""
    parts = query.stream(chosen, oldest_first=False)
    while some := list(islice(parts, _AT_ONCE)):
        digests = library.recipes_of(some)
        yield from ((part, digests.get(part.part_id)) for part in some)


def _store(home: Home) -> Store | None:
    """Return the image store of the station that runs from this state folder, if it has one."""
    if not (home.path / "station.json").exists():
        return None
    station = home.read_station()
    return store.connect(station.storage.images, station.station)
