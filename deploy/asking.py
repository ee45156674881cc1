"""`andon query`: the query service on the command line, as tables for people and as JSON for programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel

from config.errors import InputError
from config.home import Home, default_path
from config.messages import Judgement
from deploy import choosing
from deploy.database import database
from deploy.table import NOTHING, Screen, clock, number, share
from storage.query.answers import Bucket, Choices, Counts, Page, Part, PartLine, Rates
from storage.query.filters import Filter
from storage.query.population import What
from storage.query.service import LARGEST_PAGE, QueryService
from storage.query.since import Change, Level, SinceWhen, since_when

_LIMIT = 50
_WORST_FIRST = (Judgement.FAULT, Judgement.REJECT, Judgement.REVIEW, Judgement.PASS)
_Kind = TypeVar("_Kind", bound=StrEnum)
_Answer = tuple[BaseModel, Iterator[str]]


def query(arguments: argparse.Namespace) -> int:
    """Answer one question; 0 also where nothing is found."""
    ask = _question(arguments, choosing.read(arguments), Screen(sys.stdout))
    with database(Home(arguments.home or default_path()), "query") as url:
        answer, lines = ask(url)
    if arguments.json:
        sys.stdout.write(answer.model_dump_json() + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in lines)
    return 0


def _question(arguments: argparse.Namespace, chosen: Filter, screen: Screen) -> Callable[[str], _Answer]:
    """Return what answers the question; raise InputError where the arguments are none."""
    listed = not (arguments.counts or arguments.rates or arguments.part or arguments.choices or arguments.since_when)
    if not listed and (arguments.limit is not None or arguments.after is not None):
        raise InputError("--limit, --after: are for the list of parts only")
    if (arguments.part or arguments.choices) and chosen != Filter():
        raise InputError("a filter chooses nothing with --part and --choices: leave it out")
    if arguments.since_when:
        what = _one_of(What, arguments.since_when, "--since-when")
        return lambda url: _since_when(url, chosen, what, screen)
    if arguments.rates:
        bucket = _one_of(Bucket, arguments.rates, "--rates")
        return _asking(lambda service: _rates(service.rates(chosen, bucket), screen))
    if arguments.counts:
        return _asking(lambda service: _counts(service.counts(chosen)))
    if arguments.part:
        return _asking(lambda service: _part(service, arguments.part, screen))
    if arguments.choices:
        return _asking(lambda service: _choices(service.choices(), screen))
    return _asking(lambda service: _list(service, chosen, arguments.after, arguments.limit or _LIMIT, screen))


def _asking(ask: Callable[[QueryService], _Answer]) -> Callable[[str], _Answer]:
    def asked(url: str) -> _Answer:
        service = QueryService(url)
        try:
            return ask(service)
        finally:
            service.close()

    return asked


def _one_of(kind: type[_Kind], text: str, option: str) -> _Kind:
    try:
        return kind(text.casefold())
    except ValueError:
        raise InputError(f"{option}: {text!r:.40} is none of {', '.join(kind)}") from None


def _list(service: QueryService, chosen: Filter, after: str | None, limit: int, screen: Screen) -> _Answer:
    parts: list[PartLine] = []
    while True:
        page = service.parts(chosen, after, limit=min(LARGEST_PAGE, limit - len(parts)))
        parts += page.parts
        after = page.after
        if after is None or len(parts) >= limit:
            break
    whole = page.model_copy(update={"parts": tuple(parts)})
    return whole, _list_lines(whole, screen)


def _list_lines(page: Page, screen: Screen) -> Iterator[str]:
    if page.parts:
        names = ("TIME", "VERDICT", "SCORE", "PRODUCT", "RECIPE", "GATE", "REASONS", "PART")
        yield from screen.table(names, [_row(part) for part in page.parts])
    verdicts = [part.verdict for part in page.parts]
    counted = [f"{verdicts.count(judgement)} {judgement}" for judgement in _WORST_FIRST if judgement in verdicts]
    yield f"{len(page.parts)} parts" + (": " + ", ".join(counted) if counted else "")
    if page.after is not None:
        yield f"there are more: --after {page.after}"


def _row(part: PartLine) -> tuple[str, ...]:
    return (
        clock(part.trigger_time),
        part.verdict.value,
        number(part.score),
        part.product,
        f"{part.recipe} {part.recipe_version}",
        _gate(part),
        ", ".join(part.reasons) or NOTHING,
        part.part_id,
    )


def _gate(part: PartLine) -> str:
    if part.gate_confirmed is None:
        return f"{part.gate}?"
    return part.gate.value if part.gate_confirmed else f"{part.gate}, not confirmed"


def _counts(counts: Counts) -> _Answer:
    def lines() -> Iterator[str]:
        for judgement in _WORST_FIRST:
            parts = counts.verdicts[judgement]
            of_all = f"  {share(parts / counts.total)}" if counts.total and not counts.at_least else ""
            yield f"{judgement:8} {parts:>12,}{of_all}"
        yield f"{'parts':8} {counts.total:>12,}{' at least' if counts.at_least else ''}"

    return counts, lines()


def _rates(rates: Rates, screen: Screen) -> _Answer:
    def lines() -> Iterator[str]:
        names = ("FROM", "PARTS", *_WORST_FIRST, "REJECTED", "MEAN SCORE")
        rows = [
            (
                clock(point.start),
                str(point.parts),
                *(str(point.verdicts.get(judgement, 0)) for judgement in _WORST_FIRST),
                share(point.verdicts.get(Judgement.REJECT, 0) / point.parts) if point.parts else NOTHING,
                number(point.mean_score),
            )
            for point in rates.points
        ]
        yield from screen.table(names, rows)
        if rates.searched_to is not None:
            yield f"complete only from {clock(rates.searched_to)} on: more than can be counted at once"

    return rates, lines()


def _choices(choices: Choices, screen: Screen) -> _Answer:
    def lines() -> Iterator[str]:
        rows = [
            (kind, one.name, clock(one.first), clock(one.last))
            for kind in Choices.model_fields
            for one in getattr(choices, kind)
        ]
        yield from screen.table(("KIND", "NAME", "FIRST", "LAST"), rows)

    return choices, lines()


def _part(service: QueryService, part_id: str, screen: Screen) -> _Answer:
    part = service.part(part_id)
    if part is None:
        raise InputError(f"--part {part_id:.80}: there is no such part")
    return part, _part_lines(part, screen)


def _part_lines(part: Part, screen: Screen) -> Iterator[str]:
    truth = NOTHING
    if part.truth_good is not None:
        truth = "good" if part.truth_good else part.truth_defect or "bad"
    facts = {
        "part": part.part_id,
        "verdict": f"{part.verdict}  {', '.join(part.reasons)}",
        "score": number(part.score, 4),
        "triggered": clock(part.trigger_time),
        "judged after": f"{part.trigger_to_verdict_ms:.1f} ms of {part.deadline_ms:.0f} ms",
        "gate": f"{part.gate}, seen: {part.gate_outcome or NOTHING}",
        "station": f"{part.station}, line {part.line}",
        "product": f"{part.product}, recipe {part.recipe} version {part.recipe_version}",
        "challenge": "yes" if part.challenge else "no",
        "truth": truth,
    }
    for name, value in facts.items():
        yield f"{name:14}{value.strip()}"
    yield ""
    rows = [
        (one.camera, one.verdict.value, number(one.score, 4), number(one.review_above, 4), number(one.reject_above, 4))
        for one in part.details
    ]
    yield from screen.table(("CAMERA", "VERDICT", "SCORE", "REVIEW ABOVE", "REJECT ABOVE"), rows)
    defects = [
        (one.camera, *map(str, (box.x_px, box.y_px, box.width_px, box.height_px, box.area_px)), number(box.score, 4))
        for one in part.details
        for box in one.regions
    ]
    if defects:
        yield ""
        yield from screen.table(("DEFECT ON", "X", "Y", "WIDTH", "HEIGHT", "AREA PX", "SCORE"), defects)


def _since_when(url: str, chosen: Filter, what: What, screen: Screen) -> _Answer:
    answer = since_when(url, chosen, what)
    return answer, _since_lines(answer, screen)


def _since_lines(answer: SinceWhen, screen: Screen) -> Iterator[str]:
    change, rate = answer.change, answer.what is not What.SCORE
    looked_at = f"{answer.parts:,} parts from {clock(answer.since)} to {clock(answer.until)}"
    if change is None:
        yield f"no change of {answer.what} is to be seen in {looked_at}" if answer.parts else "no such parts"
    else:
        before, after = (_level(level, rate=rate) for level in (change.before, change.after))
        yield f"{answer.what} changed at {clock(change.at)}: {before} before, {after} since"
        if change.first is not None:
            yield f"first part    {change.first.part_id}"
        # of two stations that take turns, neighbours always differ, and nothing came with that
        if change.first and change.last_before and change.first.station == change.last_before.station:
            for name in ("product", "recipe", "recipe_version"):
                old, new = getattr(change.last_before, name), getattr(change.first, name)
                if old != new:
                    yield f"with it came  {name} {old} -> {new}"
        yield f"it lies       between {clock(change.earliest)} and {clock(change.latest)} (95 %)"
        yield f"by chance     {change.p_value:.1g} of such series look like this"
        yield f"looked at     {looked_at}"
    if answer.note:
        yield f"note          {answer.note}"
    if answer.others:
        yield ""
        yield from screen.table(
            ("EARLIER CHANGE", "BEFORE", "AFTER", "BY CHANCE"), [_earlier(one, rate=rate) for one in answer.others]
        )


def _earlier(change: Change, *, rate: bool) -> tuple[str, ...]:
    before, after = (share(one.value) if rate else number(one.value) for one in (change.before, change.after))
    return clock(change.at), before, after, f"{change.p_value:.1g}"


def _level(level: Level, *, rate: bool) -> str:
    if rate:
        return f"{share(level.value)} ({share(level.low)} to {share(level.high)})"
    return f"{number(level.value)} ({number(level.low)} to {number(level.high)})"
