"""What is filtered, to take away: a table at once, and the command that writes more at the station."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from storage.console.context import TheConsole
from storage.query.answers import Part
from storage.query.filters import Filter

MOST_ROWS = 100_000
_AT_ONCE = 200  # rows; what is in memory is never more than a page of the query service
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet's formula begins (OWASP: CSV injection)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}}, "description": "UTF-8, one line for each part, newest first"},
}
_COLUMNS = (
    *("part_id", "trigger_time", "station", "line", "run", "sequence", "product", "recipe", "recipe_version"),
    *("verdict", "reasons", "score", "trigger_to_verdict_ms", "trigger_to_gate_ms", "gate", "gate_outcome"),
    *("gate_confirmed", "challenge", "truth_good", "truth_defect", "views", "defects", "largest_defect_px"),
)

router = APIRouter(tags=["parts"])


@router.get("/api/parts.csv", response_class=StreamingResponse, responses=_RESPONSES)
def table(console: TheConsole, chosen: Annotated[Filter, Query()]) -> StreamingResponse:
    """Return the newest 100,000 parts at most that the filter finds as a table; more: `andon export`."""
    found = console.query.stream(chosen, oldest_first=False)
    first = next(found, None)  # what is wrong with the question is answered before the table begins
    parts = islice(_all(first, found), MOST_ROWS)
    headers = {"Content-Disposition": f'attachment; filename="{console.station.station}-parts.csv"'}
    return StreamingResponse(lines(parts), media_type="text/csv; charset=utf-8", headers=headers)


def lines(parts: Iterator[Part]) -> Iterator[str]:
    """Yield a table of parts, some hundred lines at a time."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    while some := list(islice(parts, _AT_ONCE)):
        writer.writerows([_cell(value) for value in _row(part)] for part in some)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def command(chosen: Filter) -> str:
    """Return the options by which `andon export` means the same parts, quoted for a shell."""
    options: list[str] = []
    for name, value in chosen.model_dump(mode="json", exclude_defaults=True).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            options += [word for one in sorted(value) for word in (flag.removesuffix("s"), str(one))]
        elif isinstance(value, bool):
            options.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            options += [flag, str(value)]
    return shlex.join(options)


def _all(first: Part | None, others: Iterator[Part]) -> Iterator[Part]:
    if first is not None:
        yield first
        yield from others


def _row(part: Part) -> Iterator[object]:
    regions = [region for view in part.details for region in view.regions]
    more = {
        "reasons": " ".join(part.reasons),
        "views": " ".join(view.camera for view in part.views),
        "defects": len(regions),
        "largest_defect_px": max((region.area_px for region in regions), default=None),
    }
    return (more[name] if name in more else getattr(part, name) for name in _COLUMNS)


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
