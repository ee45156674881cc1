"""A replay in words: a line for each part, and a table at the end."""

from __future__ import annotations

from config.messages import Judgement
from deploy.replay.findings import Comparison, PartFinding, Pixels, Summary

_NOW = tuple(judgement.value for judgement in Judgement)


def line(found: PartFinding) -> str:
    """Return what became of a part, on one line."""
    told = f"{found.trigger_time.astimezone():%Y-%m-%d %H:%M:%S}  {found.part_id}  {found.verdict_then.value:6}"
    if found.obstacle is not None:
        return f"{told}  not replayable: {found.obstacle.value} ({found.detail})"
    now = found.verdict_now.value if found.verdict_now else ""
    what = "differs" if found.differs else "same"
    if found.verdict_then is Judgement.FAULT:
        what = f"was FAULT ({', '.join(found.reasons_then)})"
    elif not found.exact:
        what = f"about the {what}" if what == "same" else what
    return f"{told} -> {now:6}  {what}: " + "; ".join(_views(found))


def table(found: Summary) -> str:
    """Return the summary for a person."""
    whose = "their own recipes and bundles" if found.as_then else "another recipe or bundle"
    lost = sum(found.not_replayable.values())
    replayed = found.parts - lost
    lines = [f"{found.parts} parts, {replayed} of them judged again by {whose}"]
    lines += _compared("exact pixels", found.exact, exact=True)
    lines += _compared("approximate", found.approximate, exact=False)
    for name, faults in (("exact pixels", found.faults_exact), ("approximate", found.faults_approximate)):
        if faults:
            would = ", ".join(f"{count} {verdict}" for verdict, count in sorted(faults.items()))
            lines.append(f"FAULT then, {name}: would have been {would}")
    if lost:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(found.not_replayable.items()))
        lines.append(f"not replayable {lost}: {why}")
    return "\n".join(lines)


def _views(found: PartFinding) -> list[str]:
    told = []
    for view in found.views:
        then = "no score" if view.score_then is None else f"{view.score_then:.6g}"
        now = "no score" if view.score_now is None else f"{view.score_now:.6g}"
        if view.difference:
            now += f" ({view.difference:+.3g})"
        regions = "" if view.same_regions else f", {len(view.regions_then)} -> {len(view.regions_now)} regions differ"
        pixels = "" if view.pixels is Pixels.EXACT else f", from a {view.pixels.value}"
        told.append(f"{view.camera} {then} -> {now}{regions}{pixels}")
    return told


def _compared(name: str, found: Comparison, *, exact: bool) -> list[str]:
    if not found.parts:
        return [f"{name:14} 0"]
    largest = f"largest score difference {found.largest_difference:.3g}"
    if found.largest_difference_part:
        largest += f" (part {found.largest_difference_part})"
    if exact:
        largest += f", {found.tolerance:.3g} is allowed"
    differ = f"{found.scores_differ} another score, {found.regions_differ} other regions"
    lines = [f"{name:14} {found.parts}: {found.same} the same; {differ}; {largest}"]
    rows = sorted({key.split("->")[0] for key in found.verdicts}, key=_NOW.index)
    lines.append(f"  {'then / now':10}" + "".join(f"{verdict:>8}" for verdict in _NOW))
    lines += [f"  {then:10}" + "".join(f"{found.verdicts.get(f'{then}->{now}', 0):8}" for now in _NOW) for then in rows]
    return lines
