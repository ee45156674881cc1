"""How many parts of each product there were since a time: whole hours from tallies, what lies before them by row."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, func, select, union_all

from config.messages import Judgement
from storage.schema import tally, verdict

_HOUR = timedelta(hours=1)


class ProductCounts(BaseModel):
    """Parts of one product by verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    product: str
    parts: int
    verdicts: dict[Judgement, int]


def by_product(connection: Connection, station: str, since: datetime) -> tuple[ProductCounts, ...]:
    """Return what a station judged since `since`, which has a zone; the product with the most parts first.

    Where `since` is no whole hour of UTC, the parts up to the next one are counted by their rows.
    """
    whole = since.replace(minute=0, second=0, microsecond=0)
    whole = whole if whole == since else whole + _HOUR
    pieces = [
        select(tally.c.product, tally.c.verdict, func.sum(tally.c.parts).label("parts"))
        .where(tally.c.hour >= whole, tally.c.station == station)
        .group_by(tally.c.product, tally.c.verdict)
    ]
    if whole > since:
        pieces.append(
            select(verdict.c.product, verdict.c.verdict, func.count().label("parts"))
            .where(verdict.c.trigger_time >= since, verdict.c.trigger_time < whole, verdict.c.station == station)
            .group_by(verdict.c.product, verdict.c.verdict)
        )
    found: dict[str, dict[Judgement, int]] = {}
    for product, judged, parts in connection.execute(union_all(*pieces)):
        verdicts = found.setdefault(product, dict.fromkeys(Judgement, 0))
        verdicts[Judgement(judged)] += int(parts)
    lines = (ProductCounts(product=name, parts=sum(of.values()), verdicts=of) for name, of in found.items())
    return tuple(sorted(lines, key=lambda line: (-line.parts, line.product)))
