"""Report a station to other systems: `python -m storage.report --home DIR`. It only reports, it takes no orders.

What is told is the live picture (`storage/live.py`), twice a second, by a plug-in: one file in `storage/reports` with
`Options` and `Reporter`. Nothing waits for who listens.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from redis import Redis
from redis.exceptions import RedisError

from config import plugins
from config.errors import ConfigurationError, DeviceError, MessageError
from config.home import Home
from config.log import Condition
from config.messages import GateOutcome, Health, Judgement, Verdict, from_json
from config.service import Service, leave, serve
from storage.addresses import redis_url
from storage.live import UNSEEN, Keys

_EVERY_NS = 500_000_000
_RETRY_NS = 2_000_000_000
_TIMEOUT_S = 1.0
_COUNTED = {
    **{f"Parts/{judgement}": judgement.value for judgement in Judgement},
    "Gate/Passed": GateOutcome.PASSED.value,
    "Gate/Ejected": GateOutcome.EJECTED.value,
    "Gate/Unseen": UNSEEN,
}
Value: TypeAlias = str | int | float
Values: TypeAlias = Mapping[str, Value]  # the types of the values never change, nor do their names
REST: Values = {
    "Line": "",
    "State": "UNKNOWN",
    "Detail": "",
    "Run": "",
    "Alarms/Count": 0,
    "Alarms/Names": "",
    "Last Part/Id": "",
    "Last Part/Verdict": "",
    "Last Part/Score": 0.0,
    "Last Part/Product": "",
    "Last Part/Recipe": "",
    "Last Part/Recipe Version": 0,
    **dict.fromkeys(_COUNTED, 0),
}  # before anything is known


class Reporter(Protocol):
    """Who tells others; made as `Reporter(options, station)`. `tell` raises DeviceError while nobody can be told."""

    def tell(self, values: Values) -> int:
        """Tell what has changed since the last time, or everything; return how many messages that took."""

    def close(self) -> None:
        """Say that the station ends, where anybody can be told."""


class Picture:
    """What a station's live picture says, as values; raises RedisError or MessageError while it cannot be read."""

    def __init__(self, url: str, station: str, line: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._keys = Keys(station)
        self._line = line

    def read(self) -> Values:
        """Return all values."""
        with self._redis.pipeline(transaction=False) as asked:
            asked.hgetall(self._keys.counters)
            asked.hkeys(self._keys.alarms)
            asked.get(self._keys.health("decision"))
            asked.xrevrange(self._keys.parts, count=1)
            counters, alarms, health, parts = asked.execute()
        told: dict[str, Value] = {**REST, "Line": self._line, "State": "STOPPED"}
        told["Run"] = counters.get(b"run", b"").decode(errors="replace")
        told |= {name: _number(counters.get(key.encode())) for name, key in _COUNTED.items()}
        names = sorted(name.decode(errors="replace") for name in alarms)
        told |= {"Alarms/Count": len(names), "Alarms/Names": ", ".join(names)}
        if health is not None:
            said = from_json(Health, health)
            told |= {"State": said.state, "Detail": said.detail}
        if parts:
            part = from_json(Verdict, parts[0][1].get(b"verdict", b""))
            scores = [view.score for view in part.views if view.score is not None]
            told |= {
                "Last Part/Id": part.part_id,
                "Last Part/Verdict": part.verdict.value,
                "Last Part/Score": max(scores, default=0.0),
                "Last Part/Product": part.product,
                "Last Part/Recipe": part.recipe,
                "Last Part/Recipe Version": part.recipe_version,
            }
        return told

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


class Reporting(Service):
    """The service that reports one station."""

    def __init__(self, home: Home) -> None:
        super().__init__("report", home)
        self._station = home.read_station()
        self._due_ns = 0
        self._values: Values = REST
        self._blind = Condition("redis_down", self.counters)
        self._unheard = Condition("report_unheard", self.counters)

    def open(self) -> None:
        """Find the live picture and the reporter."""
        section = self._station.report
        if section is None:
            raise ConfigurationError("report: the station file has no such table: there is nobody to report to")
        plug_in = plugins.load("storage.reports", section.type)
        options = plugins.options(plug_in, section.options, "report: options")
        self._picture = Picture(redis_url(), self._station.station, self._station.line)
        self._reporter: Reporter = plug_in.Reporter(options, self._station.station)

    def tick(self, now_ns: int) -> None:
        """Tell what has changed; who was away is asked again more seldom."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _EVERY_NS
        try:
            self._values = self._picture.read()
        except (RedisError, MessageError) as error:
            self._blind.occur(error=str(error))
            self._values = {**self._values, "State": "UNKNOWN"}
        else:
            self._blind.end()
        try:
            self.counters["reports"] += self._reporter.tell(self._values)
        except DeviceError as error:
            self._unheard.occur(error=str(error))
            self._due_ns = now_ns + _RETRY_NS
        else:
            self._unheard.end()

    def close(self) -> None:
        """Say that the station ends."""
        for opened in ("_reporter", "_picture"):
            if hasattr(self, opened):
                getattr(self, opened).close()


def _number(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def main() -> int:
    """Report until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m storage.report", description="Report a station.")
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    arguments = parser.parse_args()
    return serve(lambda: Reporting(Home(arguments.home)), "report")


if __name__ == "__main__":
    leave(main())
