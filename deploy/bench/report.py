"""What a bench measured, what it should have reached, and how both are told."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A figure's bound: `at_least` or `at_most`."""

    figure: str
    bound: float
    at_least: bool

    def met(self, figures: Mapping[str, float]) -> bool:
        """Tell whether the figure keeps its bound."""
        value = figures[self.figure]
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Report:
    """The figures of one bench; names carry their units, ratios are to the bare reference of the same run."""

    bench: str
    figures: dict[str, float]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()  # how it was measured, where that differs from machine to machine
    samples_ms: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)  # times behind percentiles

    @property
    def reached(self) -> bool:
        """Whether every target is met."""
        return all(target.met(self.figures) for target in self.targets)

    def as_json(self) -> str:
        """Return one line of JSON."""
        targets = {
            target.figure: {
                "at_least" if target.at_least else "at_most": target.bound,
                "met": target.met(self.figures),
            }
            for target in self.targets
        }
        figures = {name: float(f"{value:.5g}") for name, value in self.figures.items()}
        told = {"bench": self.bench, "figures": figures, "targets": targets, "machine": machine()}
        return json.dumps(told | ({"notes": self.notes} if self.notes else {}))

    def as_text(self) -> str:
        """Return a table for a person."""
        bounds = {target.figure: target for target in self.targets}
        lines = [f"{self.bench}  ({machine()})"]
        for name, value in self.figures.items():
            line = f"  {name:44} {value:12.4g}"
            if target := bounds.get(name):
                sign, verdict = (">=" if target.at_least else "<="), ("met" if target.met(self.figures) else "MISSED")
                line += f"   target {sign} {target.bound:g}: {verdict}"
            lines.append(line)
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def machine() -> str:
    """Return what the figures were measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
