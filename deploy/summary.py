"""What a run came to: triggers counted at the cameras, everything else in the database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from config.errors import StoreError
from config.messages import Judgement
from ingest.cursor import Cursor
from storage.query.service import QueryService

if TYPE_CHECKING:
    from config.home import Home, Run
    from config.schedule import Schedule
    from config.station import Station
    from storage.query.answers import Latency
    from storage.query.answers import Summary as Recorded

_SUM_UP_S = 1.0  # of a run that is interrupted: whoever stops a station does not wait for numbers
_REPORTS_NS = 6_000_000_000  # after the last part: the gate has reported, or never will


@dataclass(frozen=True)
class Summary:
    """A run in numbers."""

    triggers: int
    recorded: Recorded
    frames: int
    seconds: float
    setup_s: float
    restarts: dict[str, int]

    @property
    def missing(self) -> int:
        """Triggers without a recorded verdict."""
        return self.triggers - self.recorded.recorded + self.recorded.doubled

    @property
    def whole(self) -> bool:
        """Whether every trigger has one verdict and every verdict is recorded once."""
        return self.missing == 0 and self.recorded.doubled == 0

    def as_json(self) -> dict[str, object]:
        """Return the summary as `--json` prints it."""
        found = self.recorded
        values: dict[str, object] = {
            "triggers": self.triggers,
            "verdicts": {verdict.value: found.verdicts.get(verdict, 0) for verdict in Judgement},
            "recorded": found.recorded,
            "doubled": found.doubled,
            "missing": self.missing,
            "late": found.late,
            "overruns": found.overruns,
            "gate_commands": found.gate_commands,
            "gate_confirmed": found.gate_confirmed,
            "latency_ms": {
                "trigger_to_verdict": _latency(found.trigger_to_verdict),
                "trigger_to_gate": _latency(found.trigger_to_gate),
                "inference": _latency(found.inference),
            },
            "fps": round(self.frames / self.seconds, 2) if self.seconds > 0 else None,
            "setup_s": round(self.setup_s, 2),
            "restarts": self.restarts,
        }
        truth = found.truth
        if truth.good + truth.bad:
            values["truth"] = {
                "false_reject": truth.false_reject,
                "escape": truth.escape,
                "good": truth.good,
                "bad": truth.bad,
                "good_review": truth.good_review,
                "bad_review": truth.bad_review,
            }
        return values

    def as_text(self) -> str:
        """Return the summary for a person."""
        values = self.as_json()
        found, truth = self.recorded, self.recorded.truth
        verdicts = ", ".join(f"{found.verdicts.get(verdict, 0)} {verdict}" for verdict in Judgement)
        to_verdict, to_gate = found.trigger_to_verdict, found.trigger_to_gate
        lines = [
            f"{self.triggers} triggers, {found.recorded} verdicts recorded ({verdicts}), {self.missing} missing",
            f"gate: {found.gate_commands} commands taken, {found.gate_confirmed} confirmed",
            f"{found.late} late, {found.overruns} overruns",
            f"trigger to verdict {_say(to_verdict)}; trigger to gate {_say(to_gate)}; {values['fps']} frames/s",
        ]
        if truth.good + truth.bad:
            lines.append(
                f"truth: {truth.false_reject} of {truth.good} good parts did not pass ({truth.good_review} to review), "
                f"{truth.escape} of {truth.bad} bad parts passed ({truth.bad_review} to review)"
            )
        if self.restarts:
            lines.append("restarted: " + ", ".join(f"{name} {count}x" for name, count in self.restarts.items()))
        return "\n".join(lines)


class Tally:
    """Follow a run while it goes on, from outside of the processes that make it."""

    def __init__(self, home: Home, station: Station, run: Run, database_url: str) -> None:
        self._run = run
        self._cameras = len(station.cameras)
        self._schedule: Schedule | None = home.schedule()
        self._holds = home.holds()
        self._longest_deadline_ns = max(recipe.deadline_ms for recipe in home.read_recipes().values()) * 1_000_000
        self._cursors = [Cursor(home.runtime / f"{camera.name}.{run.run_id}.cursor") for camera in station.cameras]
        self._station = station.station
        self._query = QueryService(database_url)
        self._recorded: Recorded | None = None

    @property
    def triggers(self) -> int:
        """How many parts have triggered a camera: the grabbers count in memory that outlives them."""
        return max(cursor.read() for cursor in self._cursors)

    def all_triggered(self, now_ns: int) -> bool:
        """Whether the last part of the run has passed the cameras."""
        return self._last_ns is not None and now_ns > self._last_ns

    def look(self, now_ns: int) -> str:
        """Ask the database how far the run is; return a line for the screen.

        While the line runs, only its tallies are asked, which costs the same after a minute and after a year; all parts
        are looked at only once the last one has passed the cameras.
        """
        try:
            if self.all_triggered(now_ns):
                self._recorded = self._query.summary(self._run.run_id)
                verdicts = self._recorded.verdicts
            else:
                verdicts = self._query.progress(self._run.run_id, self._station).verdicts
        except StoreError:
            return f"{self.triggers} triggers; the database is away, the journal keeps the verdicts"
        of = f" of {self._run.parts}" if self._run.parts else ""
        counted = "  ".join(f"{verdict} {verdicts.get(verdict, 0)}" for verdict in Judgement)
        return f"{self.triggers}{of} triggers  {counted}"

    def complete(self, now_ns: int) -> bool:
        """Whether all parts are through, recorded, and reported by the gate."""
        gate_ns = self._gate_ns
        if self._run.parts is None or gate_ns is None or self._recorded is None or not self.all_triggered(now_ns):
            return False
        if self.triggers < self._run.parts or self._recorded.recorded < self._run.parts:
            return False
        return self._recorded.gate_reports >= self._run.parts or now_ns > gate_ns + _REPORTS_NS

    def hopeless(self, now_ns: int, patience_ns: int) -> bool:
        """Whether verdicts are still missing so long after the last deadline that waiting is no use."""
        return self._last_ns is not None and now_ns > self._last_ns + self._longest_deadline_ns + patience_ns

    def summary(self, setup_s: float, restarts: dict[str, int], *, seen: bool) -> Summary:
        """Return the run's summary: as it was seen last, when all was through, or as it is now.

        Raise StoreError if the database does not answer, or not soon enough because the run was so long.
        """
        found = (self._recorded if seen else None) or self._query.summary(self._run.run_id, _SUM_UP_S)
        seconds = 0.0
        if found.first_trigger and found.last_trigger:
            seconds = (found.last_trigger - found.first_trigger).total_seconds()
        frames = max(0, found.recorded - 1) * self._cameras
        return Summary(self.triggers, found, frames, seconds, setup_s, restarts)

    def close(self) -> None:
        """Let go of the database."""
        self._query.close()

    @property
    def _line(self) -> tuple[Schedule, int] | None:
        """Return the schedule, as the belt was held until now, and the last part; None where there is no end."""
        if self._schedule is None or self._run.parts is None:
            return None
        return replace(self._schedule, holds=self._holds.read()), self._run.parts - 1

    @property
    def _last_ns(self) -> int | None:
        return None if (line := self._line) is None else line[0].time_ns(line[1])

    @property
    def _gate_ns(self) -> int | None:
        return None if (line := self._line) is None else line[0].gate_ns(line[1])


def _latency(found: Latency) -> dict[str, float | None]:
    return {
        "p50": None if found.p50_ms is None else round(found.p50_ms, 2),
        "p99": None if found.p99_ms is None else round(found.p99_ms, 2),
        "max": None if found.max_ms is None else round(found.max_ms, 2),
    }


def _say(found: Latency) -> str:
    if found.p50_ms is None or found.p99_ms is None or found.max_ms is None:
        return "not measured"
    return f"p50 {found.p50_ms:.1f} p99 {found.p99_ms:.1f} max {found.max_ms:.1f} ms"
