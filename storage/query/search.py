"""How the parts that a filter means are found, whatever it says: in chunks, by time, with a bound on the work.

`scope.py` bounds the time to look through. Where few rows of an index can be meant at all, those are looked at and
the answer is whole. Else chunks of rows follow each other by time; from the second one on only the hours that hold,
by the tallies, what is asked for. After so many rows the search stops: whoever wants more goes on from there. So no
question, however it is put together, takes much longer than others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    FromClause,
    Select,
    and_,
    func,
    literal,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from config.messages import Judgement
from storage.query.conditions import Source, bundle_in_hour, conditions, lookups, of_defect, of_tally, sources
from storage.query.filters import Filter
from storage.query.scope import Scope, scope
from storage.schema import SOUGHT, SOUGHT_DEFECT, defect, tally, verdict

FEW = 400  # rows of an index that are looked at at once, wherever in time they are
FIRST, NEXT = 250, 8_000  # rows of a chunk
_HOUR, _WEEK = timedelta(hours=1), timedelta(weeks=1)
_TICK = timedelta(microseconds=1)  # of the database's clock
_HOURS = 64  # in the first question to the tallies; four times as many in the next ones
_FIRST_PARTITION = text(
    "SELECT min(relname) FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'verdict'::regclass"
)
_COLUMNS = [verdict.c[name] for name in ("trigger_time", "part_id", *SOUGHT)]


class Key(NamedTuple):
    """The place of a part in the order by time."""

    trigger_time: datetime
    part_id: str


@dataclass(frozen=True)
class Chunk:
    """Parts that a filter means, among the rows that are looked at together.

    `part` has their key and SOUGHT of `verdict`, `key` the columns by which they may come in order.
    """

    part: FromClause
    key: FromClause
    rows: FromClause
    where: tuple[ColumnElement[bool], ...]

    def select(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """Return the statement for columns of `part`."""
        return select(*columns).select_from(self.rows).where(*self.where)


class _Span(NamedTuple):
    """Rows by time: from `low` on, up to `high`, of those at the time of a key only the ones on its right side."""

    low: datetime
    high: datetime
    ties: tuple[tuple[Key, str], ...] = ()

    def where(self, table: FromClause) -> Iterator[ColumnElement[bool]]:
        """Yield what that says of a row."""
        yield table.c.trigger_time >= self.low
        yield table.c.trigger_time < self.high
        yield from self.beside(table)

    def beside(self, table: FromClause) -> Iterator[ColumnElement[bool]]:
        """Yield what that says of a row that is not too early or late."""
        for key, side in self.ties:
            if self.low <= key.trigger_time < self.high:
                beside = table.c.part_id.op(side, is_comparison=True)(key.part_id)
                yield (table.c.trigger_time != key.trigger_time) | beside


class _Group(NamedTuple):
    """Spans that are looked at together: about so many rows, and the key that others follow, if there are any.

    `meant` of the rows may be what the filter means, by the tallies: what these cannot tell must be looked up.
    """

    spans: list[_Span]
    rows: int
    meant: int
    end: Key | None


class Search:
    """The parts that a filter means, newest first or oldest first, after a key; `stopped_at`: where it gave up."""

    def __init__(
        self,
        connection: Connection,
        chosen: Filter,
        bounds: Scope,
        after: Key | None = None,
        *,
        oldest_first: bool = False,
    ) -> None:
        self.connection = connection
        self.chosen = chosen
        self.scope = bounds
        self._oldest_first = oldest_first
        self._span = _Span(bounds.low, bounds.high)
        if after is not None:
            self._span = self._after(self._span, after)
        self.stopped_at: Key | None = None

    def order(self, part: FromClause) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Return the order of the parts."""
        time, part_id = part.c.trigger_time, part.c.part_id
        return (time.asc(), part_id.asc()) if self._oldest_first else (time.desc(), part_id.desc())

    def chunks(self, most: int, *, limited: bool = False) -> Iterator[Chunk]:
        """Yield chunks in order, of about `most` rows together; `limited`: the caller takes only so much of each."""
        self.stopped_at = None
        if self._span.low >= self._span.high:
            return
        if self._few is not None:
            yield self._chunk(self._few, [self._span])
            return
        source = next(source for source in self._sources if source.ordered)
        cost = lookups(self.chosen, source)
        left, piece = most, most // (1 + cost)
        if limited and source.table is verdict and not conditions(self.chosen, verdict, self.scope.bundles, source):
            yield self._chunk(source, [self._span])  # every row is meant
            return
        by_hours = source.table is verdict and not source.rare
        if limited:
            groups = self._few_first(source, min(FIRST, piece), min(NEXT, piece), by_hours=by_hours)
        elif by_hours:
            groups = self._by_hours(source, self._span, most)
        else:
            groups = self._by_rows(source, self._span, piece, piece)
        for group in groups:
            yield self._chunk(source, group.spans)
            left -= group.rows + cost * group.meant
            if left <= 0:
                self.stopped_at = group.end
                return

    @cached_property
    def _sources(self) -> list[Source]:
        return sources(self.chosen)

    @cached_property
    def _few(self) -> Source | None:
        """Return where only a few parts can be, if there is such a place."""
        if self.chosen.part_id is not None:
            return Source(verdict, (verdict.c.part_id == self.chosen.part_id,), ordered=False)
        rare = [source for source in self._sources if source.rare]
        if not rare:
            return None
        coarse = _Span(self._span.low - _WEEK, self._span.high + _WEEK)
        counted = []
        for source in rare:
            # where the index has no times, a narrow condition on them makes PostgreSQL go by another index
            span = self._span if source.ordered else coarse
            found = select(literal(1)).select_from(source.table).where(*source.where, *span.where(source.table))
            counted.append(select(func.count()).select_from(found.limit(FEW + 1).subquery()).scalar_subquery())
        rows = self.connection.execute(select(*counted)).one()
        fewest = min(range(len(rare)), key=rows.__getitem__)
        return rare[fewest] if rows[fewest] <= FEW else None

    def _few_first(self, source: Source, first: int, following: int, *, by_hours: bool) -> Iterator[_Group]:
        """Divide what is to be looked at: a few rows, and if these are not enough only hours that can help."""
        groups = self._by_rows(source, self._span, first, following)
        group = next(groups)
        yield group
        if group.end is None:
            return
        yield from self._by_hours(source, self._after(self._span, group.end), NEXT) if by_hours else groups

    def _by_rows(self, source: Source, span: _Span, rows: int, following: int) -> Iterator[_Group]:
        """Divide a span into pieces of so many rows."""
        while True:
            group = self._piece(source, span, rows)
            yield group
            if group.end is None:
                return
            span, rows = self._after(span, group.end), following

    def _piece(self, source: Source, span: _Span, rows: int) -> _Group:
        """Return the beginning of a span: so many rows of a source, but at most NEXT of which some are meant."""
        table = source.table
        if table is defect:
            columns = (table.c[name] for name in ("trigger_time", "part_id", *SOUGHT_DEFECT))
            looked_at = select(*columns).where(*span.where(table)).order_by(*self.order(table)).limit(NEXT).subquery()
            end = self._nth(select(*_key(looked_at)).where(*of_defect(self.chosen, looked_at)), looked_at, rows)
            if end is None:
                end = self._nth(select(*_key(table)).where(*span.where(table)), table, NEXT)
                return _Group([span if end is None else self._until(span, end)], NEXT, 0, end)
        else:
            end = self._nth(select(*_key(table)).where(*source.where, *span.where(table)), table, rows)
        return _Group([span if end is None else self._until(span, end)], rows, rows, end)

    def _nth(self, keys: Select[Any], table: FromClause, number: int) -> Key | None:
        """Return the key that is so far on in the order, None if there are not so many."""
        found = self.connection.execute(keys.order_by(*self.order(table)).offset(number - 1).limit(1)).one_or_none()
        return None if found is None else Key(*found)

    def _by_hours(self, source: Source, span: _Span, most: int) -> Iterator[_Group]:
        """Divide a span into groups of hours that have, by the tallies, parts as the filter means them."""
        cost = lookups(self.chosen, source)
        together: list[_Span] = []
        rows = meant = 0
        for low, high, of_hour, meant_of_hour in self._hours(source, span):
            if rows and rows + of_hour + cost * (meant + meant_of_hour) > most:
                yield _Group(together, rows, meant, self._edge(together[-1]))
                together, rows, meant = [], 0, 0
            piece = span._replace(low=max(low, span.low), high=min(high, span.high))
            if of_hour + cost * meant_of_hour > 2 * most:
                for group in self._by_rows(source, piece, most // (1 + cost), most // (1 + cost)):
                    yield group._replace(end=group.end or self._edge(piece))
                continue
            last = together[-1] if together else None
            if last and (last.low, last.high) in {(piece.high, last.high), (last.low, piece.low)}:
                together[-1] = last._replace(low=min(last.low, piece.low), high=max(last.high, piece.high))
            else:
                together.append(piece)
            rows += of_hour
            meant += meant_of_hour
        if together:
            yield _Group(together, rows, meant, None)

    def _hours(self, source: Source, span: _Span) -> Iterator[tuple[datetime, datetime, int, int]]:
        """Yield hours that have, by the tallies, parts as the filter means them; the source's rows, and these parts."""
        of_source: ColumnElement[Any] = func.sum(tally.c.parts)
        if source.notable:
            of_source = func.sum(tally.c.parts).filter(tally.c.verdict != Judgement.PASS.value)
        parts = func.sum(tally.c.parts).filter(and_(true(), *of_tally(self.chosen)))
        meant: list[ColumnElement[bool]] = [parts.is_not(None)]
        if self.scope.bundles is not None:
            meant.append(bundle_in_hour(self.scope.bundles))
        low = max(span.low, self._oldest())
        low, high = low.replace(minute=0, second=0, microsecond=0), span.high
        order = tally.c.hour.asc() if self._oldest_first else tally.c.hour.desc()
        most = _HOURS
        while True:
            found = self.connection.execute(
                select(tally.c.hour, of_source, parts)
                .where(tally.c.hour >= low, tally.c.hour < high)
                .group_by(tally.c.hour)
                .having(and_(*meant))
                .order_by(order)
                .limit(most)
            ).all()
            for hour, rows, of_them in found:
                if rows:
                    yield hour, hour + _HOUR, int(rows), int(of_them)
            if len(found) < most:
                return
            most *= 4
            low, high = (found[-1].hour + _HOUR, high) if self._oldest_first else (low, found[-1].hour)

    def _oldest(self) -> datetime:
        """Return since when there are partitions: tallies outlive them."""
        first = self.connection.execute(_FIRST_PARTITION).scalar()
        return self._span.high if first is None else datetime.strptime(first[-8:], "%Y%m%d").replace(tzinfo=UTC)

    def _chunk(self, source: Source, spans: Sequence[_Span]) -> Chunk:
        """Return the parts of a source in some spans."""
        table = source.table
        part: FromClause
        key: FromClause
        rows: FromClause
        if table is not verdict:
            (span,) = spans
            keys = select(*_key(table)).distinct().where(*source.where, *span.where(table))
            key = keys.order_by(*self.order(table)).offset(0).subquery("key")
            same = (verdict.c.part_id == key.c.part_id, verdict.c.trigger_time == key.c.trigger_time)
            part = select(*_COLUMNS).where(*same).offset(0).lateral("part")
            rows = key.join(part, true())
        elif len(spans) == 1:
            found = select(*_COLUMNS).where(*source.where, *spans[0].where(verdict))
            # OFFSET: what else is asked of the rows must not lead PostgreSQL to look elsewhere
            part = key = rows = (
                (found.order_by(*self.order(verdict)) if source.ordered else found).offset(0).subquery("part")
            )
        else:
            times = {name: [getattr(span, name) for span in spans] for name in ("low", "high")}
            hours = func.unnest(*(literal(times[name], ARRAY(DateTime(timezone=True))) for name in times))
            hour = hours.table_valued(*times, name="hour").render_derived()
            within = (verdict.c.trigger_time >= hour.c.low, verdict.c.trigger_time < hour.c.high)
            around = _Span(min(times["low"]), max(times["high"]), spans[0].ties)
            found = select(*_COLUMNS).where(*within, *around.beside(verdict), *source.where)
            part = key = found.offset(0).lateral("part")
            rows = hour.join(part, true())
        return Chunk(part, key, rows, tuple(conditions(self.chosen, part, self.scope.bundles, source)))

    def _after(self, span: _Span, key: Key) -> _Span:
        """Return what of a span follows a key."""
        if self._oldest_first:
            return _Span(max(span.low, key.trigger_time), span.high, (*span.ties, (key, ">")))
        high = span.high if key.trigger_time >= span.high else key.trigger_time + _TICK
        return _Span(span.low, high, (*span.ties, (key, "<")))

    def _until(self, span: _Span, key: Key) -> _Span:
        """Return a span as far as a key, itself included."""
        if self._oldest_first:
            return _Span(span.low, key.trigger_time + _TICK, (*span.ties, (key, "<=")))
        return _Span(key.trigger_time, span.high, (*span.ties, (key, ">=")))

    def _edge(self, span: _Span) -> Key:
        """Return a key that everything of a span comes before, and everything else after."""
        return Key(span.high if self._oldest_first else span.low, "")


def _key(table: FromClause) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return table.c.trigger_time, table.c.part_id


def search(
    connection: Connection, chosen: Filter, after: Key | None = None, *, oldest_first: bool = False
) -> Search | None:
    """Return the search for what a filter means, None where nothing can be found."""
    bounds = scope(connection, chosen)
    return None if bounds is None else Search(connection, chosen, bounds, after, oldest_first=oldest_first)
