"""A run in numbers: every part of it is looked at, which takes the longer the more there are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, func, select

from config.messages import Judgement, Reason
from storage.query.answers import Latency, Summary, TruthCounts
from storage.schema import gate_report, milliseconds, seen, verdict, view

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def summary(connection: Connection, run: str) -> Summary:
    """Return a run in numbers; of an unknown run all counts are 0."""
    of_run = select(seen.c.first_time, seen.c.last_time).where(seen.c.kind == "run", seen.c.name == run)
    span = connection.execute(of_run).one_or_none() or (_NEVER, _NEVER)
    # PostgreSQL does not conclude from the same time that the other tables' rows lie in the same span
    parts = (verdict.c.run == run, verdict.c.trigger_time.between(*span))
    reported = verdict.outerjoin(gate_report, and_(_same_part(gate_report), gate_report.c.trigger_time.between(*span)))
    viewed = verdict.join(view, and_(_same_part(view), view.c.trigger_time.between(*span)))
    fields = connection.execute(select(*_SUMMARY).select_from(reported).where(*parts)).one()._asdict()
    inference = connection.execute(select(*_INFERENCE).select_from(viewed).where(*parts)).one()._asdict()
    return Summary(
        run=run,
        verdicts={judgement: fields.pop(judgement.value) for judgement in Judgement},
        truth=TruthCounts(**{name: fields.pop(name) for name in TruthCounts.model_fields}),
        trigger_to_verdict=_latency(fields, "verdict"),
        trigger_to_gate=_latency(fields, "gate"),
        inference=_latency(inference, "inference"),
        **fields,
    )


def _same_part(table: Table) -> ColumnElement[bool]:
    return and_(table.c.part_id == verdict.c.part_id, table.c.trigger_time == verdict.c.trigger_time)


def _latency(fields: dict[str, Any], what: str) -> Latency:
    return Latency(**{name: fields.pop(f"{what}_{name}") for name in Latency.model_fields})


def _count(name: str, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(and_(*conditions)).label(name)


def _spread(what: str, value: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    return (
        func.percentile_cont(0.5).within_group(value).label(f"{what}_p50_ms"),
        func.percentile_cont(0.99).within_group(value).label(f"{what}_p99_ms"),
        func.max(value).label(f"{what}_max_ms"),
    )


_GOOD, _BAD = verdict.c.truth_good.is_(True), verdict.c.truth_good.is_(False)
_SUMMARY = (
    func.count().label("recorded"),
    (func.count() - func.count(func.distinct(verdict.c.part_id))).label("doubled"),
    *(_count(judgement.value, verdict.c.verdict == judgement.value) for judgement in Judgement),
    _count("good", _GOOD),
    _count("bad", _BAD),
    _count("false_reject", _GOOD, verdict.c.verdict != Judgement.PASS.value),
    _count("escape", _BAD, verdict.c.verdict == Judgement.PASS.value),
    _count("good_review", _GOOD, verdict.c.verdict == Judgement.REVIEW.value),
    _count("bad_review", _BAD, verdict.c.verdict == Judgement.REVIEW.value),
    _count("late", verdict.c.reasons.contains([Reason.LATE.value]) | (verdict.c.judged_ns > verdict.c.deadline_ns)),
    _count("overruns", verdict.c.reasons.contains([Reason.OVERRUN.value])),
    _count("gate_reports", gate_report.c.part_id.is_not(None)),
    _count("gate_commands", gate_report.c.written_ns.is_not(None)),
    _count("gate_confirmed", gate_report.c.confirmed.is_(True)),
    *_spread("verdict", milliseconds(verdict.c.trigger_ns, verdict.c.judged_ns)),
    *_spread("gate", milliseconds(verdict.c.trigger_ns, gate_report.c.written_ns)),
    func.min(verdict.c.trigger_time).label("first_trigger"),
    func.max(verdict.c.trigger_time).label("last_trigger"),
)
_INFERENCE = _spread("inference", milliseconds(view.c.started_ns, view.c.finished_ns))
