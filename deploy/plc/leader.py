"""The PLC's side of the handshake where the PLC leads (decision/handshake.py is the station's). No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace

from decision.gate import PlcSignals, StationSignals
from decision.registers import Result

_PATIENCE_NS = 1_000_000_000  # a trigger that nobody answers is taken back


@dataclass(frozen=True)
class StationSide:
    """What the PLC reads of the station's side."""

    signals: StationSignals
    acked_part: int
    error_part: int
    result: Result | None


class Leader:
    """Triggers each part by its number, acknowledges each result."""

    def __init__(self) -> None:
        self.signals = PlcSignals(trigger_enable=True)
        self.part_number = 0
        self.results = 0  # acknowledged
        self.untriggered = 0
        self._triggered_ns = 0

    def turn(self, station: StationSide, due: int | None, now_ns: int, *, deaf: bool = False) -> None:
        """Do what the station's side asks for; `due` is the number of a part that has just come.

        A part for which the station is not ready goes by untriggered: the gate at rest ejects it. `deaf`: acks and
        results are not seen (a fault on command).
        """
        self._reset(station.signals)
        if not deaf:
            self._take_result(station)
        if self.signals.trigger:
            self._end_trigger(station, now_ns, deaf=deaf)
            self.untriggered += due is not None
        elif due is not None:
            if station.signals.ready and not station.signals.ack:
                self.part_number, self._triggered_ns = due, now_ns
                self.signals = replace(self.signals, trigger=True)
            else:
                self.untriggered += 1

    def _reset(self, station: StationSignals) -> None:
        self.signals = replace(self.signals, error_reset=station.error or station.overrun)

    def _take_result(self, station: StationSide) -> None:
        valid = station.signals.results_valid
        self.results += valid and not self.signals.results_ack
        self.signals = replace(self.signals, results_ack=valid)

    def _end_trigger(self, station: StationSide, now_ns: int, *, deaf: bool) -> None:
        taken = station.signals.ack and station.acked_part == self.part_number
        refused = station.signals.overrun and station.error_part == self.part_number
        tired = now_ns - self._triggered_ns > _PATIENCE_NS
        if (taken and not deaf) or refused or tired:
            self.untriggered += not taken
            self.signals = replace(self.signals, trigger=False)
