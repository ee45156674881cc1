"""The andon light: what the station's processes say of themselves, as one colour and the causes in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from config.messages import Health
from config.station import Station

_WORDS = {"STARTING": "is starting", "STOPPING": "is stopping", "DEGRADED": "is degraded", "READY": "is ready"}


class LineState(StrEnum):
    """What the light shows."""

    RUNNING = "RUNNING"
    DEGRADED = "DEGRADED"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"  # nothing can be known while Redis is away


@dataclass(frozen=True)
class Andon:
    """The light and why it shows what it shows."""

    state: LineState
    causes: tuple[str, ...] = ()


def service_names(station: Station) -> tuple[str, ...]:
    """Return the processes that must run, as their log and the supervisor call them; the indispensable ones first."""
    cameras = [f"camera-{camera.name}" for camera in station.cameras]
    workers = [f"worker-{number}" for number in range(station.workers.count)]
    return ("decision", "storage", *workers, *cameras)


def beside_names(station: Station) -> tuple[str, ...]:
    """Return the processes that run beside the line: it goes on without them, and the light does not speak of them."""
    asked = (("teacher", True), ("opcua", station.opcua is not None), ("report", station.report is not None))
    return tuple(name for name, runs in asked if runs)


def judge(names: Sequence[str], health: Mapping[str, Health], away: str | None) -> Andon:
    """Return the light for the `names` of processes that must run and the health of those that were heard of lately.

    Without decision or storage, without any worker or any camera no part is judged: STOPPED. Whatever else is not
    READY makes it DEGRADED. `away` says why nothing is known at all.
    """
    if away is not None:
        return Andon(LineState.UNKNOWN, ("trying again", away))
    if not any(name in health for name in names):
        return Andon(LineState.STOPPED, ("no process of the station has been heard of for 5 s",))
    causes = tuple(_cause(name, health.get(name)) for name in names if not _fine(health.get(name)))
    able = {name for name in names if name in health and health[name].state in {"READY", "DEGRADED"}}
    judged = all(any(name.startswith(kind) for name in able) for kind in ("camera-", "worker-", "decision", "storage"))
    if not judged:
        return Andon(LineState.STOPPED, causes)
    return Andon(LineState.DEGRADED if causes else LineState.RUNNING, causes)


def _fine(health: Health | None) -> bool:
    return health is not None and health.state == "READY"


def _cause(name: str, health: Health | None) -> str:
    if health is None:
        return f"{name} does not answer"
    return f"{name} {_WORDS[health.state]}" + (f": {health.detail}" if health.detail else "")
