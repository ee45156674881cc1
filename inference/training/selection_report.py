"""What was tried for a product, what none beats, and what to take: figures, tables and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from config import files
from config.errors import StoreError
from config.intervals import area_interval
from inference.training import figures
from inference.training.report import templates
from inference.training.selection import Limits, Point, TradeOff, choose, told_apart, trade_off
from inference.training.trial import Outcome


class Judged(NamedTuple):
    """A candidate that was measured: the figures that a choice is made of, and the 95 % interval of its AUROC."""

    name: str
    auroc: float
    low: float
    high: float
    ms: float
    mb: float
    outcome: Outcome


class Selection(BaseModel):
    """What to take, and why.

    `alike` are the candidates, the most accurate among them, that these test images cannot tell from it.
    `farthest_above` names by each kind of cost who is farthest above the trend, None where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    data: str
    data_digest: str
    limits: Limits
    good: int
    bad: int
    chosen: str | None
    most_accurate: str | None
    alike: tuple[str, ...]
    pareto_by_size: tuple[str, ...]
    pareto_by_time: tuple[str, ...]
    farthest_above: dict[str, str | None]
    outcomes: tuple[Outcome, ...]


def select(data: str, data_digest: str, limits: Limits, outcomes: Sequence[Outcome]) -> Selection:
    """Return the choice among what was measured within the limits; nothing is chosen where that is nothing."""
    rows = judged(outcomes)
    by_size, by_time = trade_offs(rows)
    best = max(rows, key=lambda row: (row.auroc, -row.ms), default=None)
    kinds = [image.good for image in rows[0].outcome.evaluation.images] if rows and rows[0].outcome.evaluation else []
    return Selection(
        data=data,
        data_digest=data_digest,
        limits=limits,
        good=kinds.count(True),
        bad=kinds.count(False),
        chosen=choose(by_size, by_time) if rows else None,
        most_accurate=best.name if best else None,
        alike=tuple(row.name for row in rows if best and (row is best or not _apart(best, row))),
        pareto_by_size=by_size.pareto,
        pareto_by_time=by_time.pareto,
        farthest_above={"size": by_size.farthest_above, "time": by_time.farthest_above},
        outcomes=tuple(outcomes),
    )


def judged(outcomes: Sequence[Outcome]) -> list[Judged]:
    """Return what was measured, the most accurate first."""
    rows = []
    for outcome in outcomes:
        evaluation, cost, mb = outcome.evaluation, outcome.cost, outcome.mb
        if outcome.state != "measured" or evaluation is None or cost is None or mb is None:
            continue
        area = evaluation.image_auroc
        assert area is not None  # noqa: S101 - `data_digest` refuses test images of one kind
        good = sum(image.good for image in evaluation.images)
        low, high = area_interval(area, good, len(evaluation.images) - good)
        rows.append(Judged(outcome.candidate.name, area, low, high, cost.ms_per_image, mb, outcome))
    return sorted(rows, key=lambda row: (-row.auroc, row.ms))


def trade_offs(rows: Sequence[Judged]) -> tuple[TradeOff, TradeOff]:
    """Return accuracy against size and against time."""
    if not rows:
        nothing = TradeOff((), (), None, None)
        return nothing, nothing
    by_size = trade_off([Point(row.name, row.auroc, row.mb) for row in rows])
    return by_size, trade_off([Point(row.name, row.auroc, row.ms) for row in rows])


def _apart(best: Judged, other: Judged) -> bool:
    first, second = best.outcome.evaluation, other.outcome.evaluation
    assert first is not None and second is not None  # noqa: S101, PT018 - as `judged` says
    best_scores, other_scores = ([image.score for image in found.images] for found in (first, second))
    return told_apart(best_scores, other_scores, [not image.good for image in first.images])


def write(folder: Path, selection: Selection) -> tuple[Path, Path]:
    """Write `select.html`, which stands alone, `select.md` with its figures beside, and `select.json`.

    Return the paths of the first two; raise StoreError where they cannot be written.
    """
    rows = judged(selection.outcomes)
    drawn: dict[str, bytes] = {}
    if rows:
        by_size, by_time = trade_offs(rows)
        drawn["size.svg"] = figures.svg(figures.trade_off(by_size, "size of the bundle, MB"))
        drawn["time.svg"] = figures.svg(figures.trade_off(by_time, "time an image, ms"))
    left = [outcome for outcome in selection.outcomes if outcome.state != "measured"]
    found = templates()
    names = ("select.html", "select.md")
    said = {
        name: found.get_template(name).render(selection=selection, rows=rows, left=left, figures=drawn).encode()
        for name in names
    }
    said["select.json"] = selection.model_dump_json(indent=1).encode()
    try:
        for name, content in (*drawn.items(), *said.items()):
            files.write(folder / name, content)
    except OSError as error:
        raise StoreError(f"{folder}: the report cannot be written: {error.strerror}") from error
    return folder / names[0], folder / names[1]
