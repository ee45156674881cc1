"""A belt with an encoder, a gate and its sensors behind a remote I/O coupler: `python tests/belt_coupler.py PORT SEED`.

The coupler is libmodbus (C), the belt is this file; neither has anything in common with the station. Speed changes at
random and the belt stops at random, unless the seed is 0. A line `part NUMBER` on stdin puts a part in front of the
cameras; the answer is `NUMBER TIME_NS WAY_MM`. `report` answers with one JSON object of what became of every part, as
it was seen from here. `hang up` cuts the connection, `bin full` fills the bin. Every output is off 0.1 s after the last
request: a watchdog. Sensors give pulses of 25 ms, and are counted.

A real belt does not wait for a processor: this one runs before other work where that is allowed, and says of which
parts it does not know better (`blurred`), and how long the station was silent at most (`silent_ms`, without cuts).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import sys
import time

from coupler_peers import Libmodbus

MM_PER_COUNT = 0.05
GATE_MM, WINDOW_MM, SENSOR_MM = 300.0, 60.0, 200.0
FALL_NS = 40_000_000
PULSE_NS = 25_000_000
WATCHDOG_NS = 100_000_000
TOP_MM_S = 800.0
STEADY_MM_S = 400.0
PART_SENSOR, EJECTED_SENSOR, BIN_FULL = 0, 1, 2  # inputs
LINE_STOP = 1  # the coil behind the gate's
ENCODER = 4  # the input register; 16 bits
COUNTS = {PART_SENSOR: 5, EJECTED_SENSOR: 6}  # input registers that count a sensor's pulses
FIRST_COUNT = 64_000  # so that it wraps round soon
BLURRED_NS = 8_000_000
PRIORITY = 30


class Belt:
    """The world, moved on whenever anybody looks."""

    def __init__(self, port: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.coupler = Libmodbus(port, self.asked)
        self.asked_ns = self.now_ns = time.monotonic_ns()
        self.way_mm = 0.0
        self.speed_mm_s = STEADY_MM_S
        self.steady = seed == 0
        self.change_ns = self.now_ns + 300_000_000
        self.stops = 0
        self.parts: dict[int, float] = {}  # on the belt: number -> way at the cameras
        self.fates: dict[int, str] = {}
        self.falling: list[int] = []  # when they pass the sensor
        self.pulses = {PART_SENSOR: 0, EJECTED_SENSOR: 0}
        self.blurred: set[int] = set()
        self.silent_ns = 0
        self.cut = True

    def asked(self) -> None:
        now_ns = time.monotonic_ns()
        if not self.cut:
            self.silent_ns = max(self.silent_ns, now_ns - self.asked_ns)
        self.asked_ns, self.cut = now_ns, False

    def move(self) -> None:
        before_mm, before_ns, self.now_ns = self.way_mm, self.now_ns, time.monotonic_ns()
        self.way_mm += self.speed_mm_s * (self.now_ns - before_ns) / 1e9
        memory = self.coupler.memory
        if self.now_ns - before_ns > BLURRED_NS:
            self.blurred.update(self.parts)
        if self.now_ns - self.asked_ns > WATCHDOG_NS and memory.coils[0]:
            memory.coils[0] = memory.coils[LINE_STOP] = 0
        for number, at_mm in list(self.parts.items()):
            if before_mm < at_mm + SENSOR_MM <= self.way_mm:
                self.pulse(PART_SENSOR)
            if self.way_mm >= at_mm + GATE_MM:
                del self.parts[number]
                self.fates[number] = "passed" if memory.coils[0] else "ejected"
                if not memory.coils[0]:
                    self.falling.append(self.now_ns + FALL_NS)
        if any(due_ns <= self.now_ns for due_ns in self.falling):
            self.falling = [due_ns for due_ns in self.falling if due_ns > self.now_ns]
            self.pulse(EJECTED_SENSOR)
        for number, until_ns in self.pulses.items():
            memory.inputs[number] = self.now_ns < until_ns
        memory.input_registers[ENCODER] = (FIRST_COUNT + int(self.way_mm / MM_PER_COUNT)) % 65536
        if self.now_ns >= self.change_ns and not self.steady:
            stop = self.random.random() < 0.2
            self.stops += stop
            self.speed_mm_s = 0.0 if stop else self.random.uniform(100, 0.9 * TOP_MM_S)
            self.change_ns = self.now_ns + round(self.random.uniform(100, 250 if stop else 600) * 1e6)

    def pulse(self, sensor: int) -> None:
        self.pulses[sensor] = self.now_ns + PULSE_NS
        registers = self.coupler.memory.input_registers
        registers[COUNTS[sensor]] = (registers[COUNTS[sensor]] + 1) % 65536

    def obey(self, line: str) -> str:
        match line.split():
            case ["part", number]:
                self.parts[int(number)] = self.way_mm
                return f"{number} {self.now_ns} {self.way_mm}"
            case ["hang", "up"]:
                self.cut = True
                self.coupler.hang_up()
                return "hung up"
            case ["bin", state]:
                self.coupler.memory.inputs[BIN_FULL] = state == "full"
                return state
            case ["way"]:
                return f"{self.way_mm}"
            case _:
                line_stop = bool(self.coupler.memory.coils[LINE_STOP])
                seen = {"fates": self.fates, "stops": self.stops, "line_stop": line_stop}
                return json.dumps({**seen, "blurred": sorted(self.blurred), "silent_ms": self.silent_ns / 1e6})


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    belt = Belt(int(sys.argv[1]), int(sys.argv[2]))
    belt.move()
    belt.coupler.start()
    say("ready")
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], 0.001)
        belt.move()
        if readable:
            line = sys.stdin.readline()
            if not line:
                return
            say(belt.obey(line))


if __name__ == "__main__":
    main()
