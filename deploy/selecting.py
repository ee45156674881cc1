"""`andon select`: every detector tried on a product, and the one to take."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from config import files
from config.errors import ConfigurationError
from deploy.logbook import ScreenProgress
from deploy.table import Screen
from inference.training import selection_report
from inference.training.candidates import candidates
from inference.training.selection import Limits
from inference.training.selection_report import Selection, judged
from inference.training.trial import Asked, data_digest, trial

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def select(arguments: argparse.Namespace) -> int:
    """Try what may be within the limits, one after the other; go on where an earlier run with this folder ended."""
    limits = _limits(arguments)
    wanted = candidates([name.strip() for name in arguments.detectors.split(",") if name.strip()])
    digest = data_digest(arguments.data)
    _make(arguments.out)
    progress, outcomes = ScreenProgress(), []
    for number, candidate in enumerate(wanted):
        asked = Asked(
            data=arguments.data.absolute(),
            output=arguments.out.absolute() / f"{candidate.name}.andon",
            candidate=candidate,
            limits=limits,
            false_rejects=arguments.false_rejects,
            seed=arguments.seed,
            threads=arguments.threads,
            channels=arguments.channels,
        )
        progress("candidates", number, len(wanted))
        outcome = trial(asked, digest, arguments.out, progress)
        outcomes.append(outcome)
        if outcome.why:
            sys.stderr.write(f"{candidate.name}: {outcome.state}: {outcome.why}\n")
    progress("candidates", len(wanted), len(wanted))
    found = selection_report.select(arguments.data.resolve().name, digest, limits, outcomes)
    html, markdown = selection_report.write(arguments.out, found)
    sys.stderr.write(f"report: {html} and {markdown}\n")
    _tell(found, arguments)
    return 0 if found.chosen else 1


def _limits(arguments: argparse.Namespace) -> Limits:
    named = {
        "max_ms": arguments.max_ms,
        "max_mb": arguments.max_mb,
        "max_parameters": arguments.max_params,
        "min_side_px": arguments.min_side,
    }
    try:
        return Limits.model_validate(named)
    except ValidationError as error:
        raise ConfigurationError(f"limits: {files.explain(error)}") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {folder}: cannot be made: {error.strerror}") from error


def _tell(found: Selection, arguments: argparse.Namespace) -> None:
    if arguments.json:
        left_out = {"outcomes": {"__all__": {"evaluation": {"images", "leaks"}}}}
        sys.stdout.write(json.dumps(found.model_dump(mode="json", exclude=left_out)) + "\n")
        return
    names = ("candidate", "AUROC %", "95 %", "false rejects %", "escapes %", "ms", "MB", "beaten by none in")
    rows = []
    for row in judged(found.outcomes):
        evaluation = row.outcome.evaluation
        assert evaluation is not None  # noqa: S101 - as `judged` says
        unbeaten = [
            kind
            for kind, front in (("size", found.pareto_by_size), ("time", found.pareto_by_time))
            if row.name in front
        ]
        rows.append(
            [
                row.name, f"{100 * row.auroc:.2f}", f"{100 * row.low:.1f} to {100 * row.high:.1f}",
                f"{100 * evaluation.false_rejects.rate:.1f}", f"{100 * evaluation.escapes.rate:.1f}",
                f"{row.ms:.1f}", f"{row.mb:.1f}", ", ".join(unbeaten) or "-",
            ]
        )  # fmt: skip
    for line in Screen(sys.stdout).table(names, rows) if rows else ():
        sys.stdout.write(line + "\n")
    if found.chosen is None:
        sys.stdout.write("nothing was measured within the limits\n")
        return
    others = [name for name in found.alike if name != found.most_accurate]
    sys.stdout.write(
        f"\ntake {found.chosen}: none beats it, and it is farthest above the trend of accuracy over cost\n"
        f"most accurate: {found.most_accurate}; not told from it by these images: {', '.join(others) or 'none'}\n"
        f"bundle: {arguments.out / f'{found.chosen}.andon'}\n"
    )
