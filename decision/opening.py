"""Bundles that workers are to open beside those that parts are judged by: who has, who cannot and why. Pure.

A worker tells five times a second what it has open. It counts as there for a second after that; the cameras say how
many there are, so that one is waited for of which nothing was heard yet. One that dies while it opens a bundle may try
again, once: a bundle that kills whoever opens it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from config.messages import Holding

_THERE_NS = 1_000_000_000
_WITHIN_NS = 60_000_000_000
_DEATHS = 2


@dataclass
class _Worker:
    said: Holding
    heard_ns: int
    deaths: int = 0  # while it opened what is wanted


class Openings:
    """What is wanted, and how far the workers are."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._wanted: frozenset[str] = frozenset()
        self._since_ns = 0

    def want(self, bundles: frozenset[str], now_ns: int) -> None:
        """Wait for workers to open these, by digest, from now on."""
        self._wanted, self._since_ns = bundles, now_ns
        for worker in self._workers.values():
            worker.deaths = 0

    def take(self, said: Holding, now_ns: int) -> None:
        """Take note of what a worker has open."""
        known = self._workers.get(said.worker)
        deaths = known.deaths if known else 0
        if known and known.said.pid != said.pid and known.said.opening in self._wanted:
            deaths += 1
        self._workers[said.worker] = _Worker(said, now_ns, deaths)

    def outcome(self, now_ns: int, workers: int) -> tuple[bool, str | None]:
        """Return whether it is decided, with so many workers at the cameras, and what keeps one of them from it."""
        there = [one for one in self._workers.values() if now_ns - one.heard_ns < _THERE_NS]
        for one in self._workers.values():
            if one.deaths >= _DEATHS:
                return True, f"{one.said.worker}: ended {one.deaths} times while it opened the bundle"
        for one in there:
            for digest in self._wanted & one.said.refused.keys():
                return True, f"{one.said.worker}: {one.said.refused[digest]}"
        if there and len(there) >= workers and all(self._wanted <= set(one.said.bundles) for one in there):
            return True, None
        if now_ns - self._since_ns > _WITHIN_NS:
            lacking = [one.said.worker for one in there if not self._wanted <= set(one.said.bundles)]
            return True, f"not open after {_WITHIN_NS // 10**9} s: {', '.join(lacking) or 'no worker is there'}"
        return False, None
