"""Our worker beside batching servers: the same ONNX file, frames and load, one thread of ONNX Runtime each, by turns.

    python tests/bench/peers/serving.py [--peers mosec,litserve,…] [--rounds N] [--json FILE] [--markdown FILE]

The graph is the demo bundle's; a peer's worker runs it in its own environment, `graph.py`. One client process, here,
loads them: ours by ring and lane as a camera and decision do, the others by HTTP on kept connections with requests made
beforehand; roboflow's pipeline (streamvision), which is no server, by one connection. A turn starts the server afresh,
keeps 16 frames in flight for a while (throughput), then sends frames at random moments (Poisson, the same ones for all)
at half of what the bare session makes in batches of 8. The session is measured again before each turn, and throughputs
are compared as shares of it. CPU time for each answer is that of the server's processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
import zmq
from load import Http, Link, Measured, Stream, closed_loop, open_loop
from patchcore import markdown, say
from sides import environment
from venvs import FOLDER, NotMeasuredError, python_of

from config import pages
from config.messages import AnyMessage, Buffer, Prediction, Predictions
from deploy import stations
from deploy.bench.pipeline import _Line
from deploy.bench.report import Report, Target
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore

PEERS = ("mosec", "litserve", "ray", "streamvision")
PATHS = {"mosec": "/inference", "litserve": "/predict", "ray": "/"}
IN_FLIGHT = 16
CONNECTIONS = 64
BATCH = 8
SESSION_S = 1.0
SATURATED_S = 4.0
HALF_S = 8.0
START_S = 90.0
LIMIT_S = 540.0
PICTURES = 32
SAME = 1e-3  # of the score: what another batch size may change


def main() -> int:
    pages.ask_for_large()  # our worker does; so has everybody here
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no peer outlives this
    with tempfile.TemporaryDirectory(prefix="andon-peers-") as scratch:
        report = _Bench(arguments, Path(scratch)).run()
    if arguments.json:
        arguments.json.write_text(report.as_json() + "\n")
    table = markdown(report)
    if arguments.markdown:
        arguments.markdown.write_text(table)
    print(table)  # noqa: T201 - a command that prints its figures
    measured = not any(note.startswith("NOT MEASURED") for note in report.notes)
    return 0 if report.reached and measured else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our worker beside batching servers.")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--venvs", type=Path, default=FOLDER)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


class _Fed(_Line):
    """The line, whose predictions are kept until they are asked for."""

    def __enter__(self) -> Self:
        self.came: list[Prediction] = []
        return super().__enter__()

    def _predicted(self, message: AnyMessage, _payload: list[Buffer], _peer: bytes) -> None:
        if isinstance(message, Predictions):
            self.came += message.each


class Worker:
    """Our worker process, fed through its ring."""

    def __init__(self, line: _Fed) -> None:
        self._line = line
        line._free = list(range(PICTURES))
        self._pictures = list(line._frames)
        self._tokens: dict[str, int] = {}
        self._sources = {**line._giver.sources, **line._inlet.sources}
        self._poller = zmq.Poller()
        for source in self._sources:
            self._poller.register(source, zmq.POLLIN)

    @property
    def room(self) -> int:
        return len(self._line._free)

    def submit(self, token: int, picture: int) -> None:
        """Write a frame into the ring and tell the worker."""
        slot = self._line._free.pop(0)
        self._line._frames[slot] = self._pictures[picture]
        self._line._give(slot)
        self._tokens[str(self._line._sent)] = token

    def done(self, timeout_ms: int) -> list[tuple[int, float]]:
        """Return the predictions that have come."""
        for source, _ in self._poller.poll(timeout_ms):
            self._sources[source]()
        came, self._line.came = self._line.came, []
        return [(self._tokens.pop(one.part_id), float(one.score or np.nan)) for one in came]


class _Bench:
    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments, self.work = arguments, work
        self.pythons: dict[str, Path] = {}
        self.notes: list[str] = []
        for name in filter(None, arguments.peers.split(",")):
            try:
                self.pythons[name] = python_of(name, arguments.venvs.absolute())
            except NotMeasuredError as error:
                self._give_up(name, error)
        self.bare: list[float] = []
        self.shares: dict[str, list[float]] = {}
        self.saturated: dict[str, list[float]] = {}
        self.latencies: dict[str, list[list[float]]] = {}
        self.crowded: dict[str, list[float]] = {}
        self.cpu_ms: dict[str, list[float]] = {}
        self.scores: dict[int, float] = {}

    def run(self) -> Report:
        """Measure round after round, each server in its turn, ours in a place that moves."""
        with _Line() as line:
            self._prepare(line)
        rate_per_s = self._session_per_s() / 2
        began = time.monotonic()
        for number in range(self.arguments.rounds):
            spent_s = time.monotonic() - began
            if number and spent_s * (number + 1) / number > LIMIT_S:
                self.notes.append(
                    f"ended after {number} of {self.arguments.rounds} rounds: another would take too long"
                )
                break
            arrivals = self._arrivals(rate_per_s, number)
            names = ["andon", *self.pythons]
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                say(f"round {number + 1} of {self.arguments.rounds}: {name} …")
                try:
                    self._turn(name, arrivals)
                except NotMeasuredError as error:
                    self.pythons.pop(name, None)
                    self._give_up(name, error)
        return self._report(rate_per_s)

    def _prepare(self, line: _Line) -> None:
        self.pictures = [picture.tobytes() for picture in line._frames]
        self.shape = ",".join(str(side) for side in line._frames[0].shape)
        self.model = self.work / "model.onnx"
        view = next(iter(stations.read(None).read_recipes()[line._recipe].views.values()))
        bundle = Bundle.open(view.bundle, TrustStore.load(extra=stations.DEMO_KEYS))
        self.model.write_bytes(bundle.model)
        self.engine = Engine(bundle)
        self.batch = np.stack(line._frames[:BATCH])
        _, maps = self.engine.infer(self.batch)
        self.answer_bytes = 4 + maps[0].nbytes

    def _session_per_s(self) -> float:
        """Return images per second of the bare session, at this moment: others may be at work on the machine."""
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < SESSION_S:
            self.engine.infer(self.batch)
            count += BATCH
        return count / took

    @staticmethod
    def _arrivals(rate_per_s: float, seed: int) -> list[float]:
        gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, int(HALF_S * rate_per_s))
        return list(np.cumsum(gaps))

    def _turn(self, name: str, arrivals: list[float]) -> None:
        bare_per_s = self._session_per_s()
        with self._server(name) as (link, processes):
            closed_loop(link, PICTURES, IN_FLIGHT, 0.5)
            before_s = processes.cpu_s()
            full = closed_loop(link, PICTURES, IN_FLIGHT, SATURATED_S)
            spent_s = processes.cpu_s() - before_s
            half = open_loop(link, PICTURES, arrivals)
        self._compare(name, half)
        self.bare.append(bare_per_s)
        self.saturated.setdefault(name, []).append(full.per_s)
        self.shares.setdefault(name, []).append(full.per_s / bare_per_s)
        self.crowded.setdefault(name, []).extend(full.latencies_ms)
        self.cpu_ms.setdefault(name, []).append(spent_s / len(full.latencies_ms) * 1e3)
        self.latencies.setdefault(name, []).append(half.latencies_ms)

    def _compare(self, name: str, measured: Measured) -> None:
        """Hold every answer's score against the first server's."""
        for picture, score in measured.scores.items():
            first = self.scores.setdefault(picture, score)
            if abs(score - first) > SAME * abs(first):
                raise NotMeasuredError(f"{name}: picture {picture} scores {score:.6g} and {first:.6g} with others")

    @contextlib.contextmanager
    def _server(self, name: str) -> Iterator[tuple[Link, _Processes]]:
        if name == "andon":
            with _Fed() as line:
                yield Worker(line), _Processes(line._process.pid)
            return
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        script = Path(__file__).with_name(f"{name}_server.py").absolute()
        log = self.work / f"{name}.log"
        command = [str(self.pythons[name]), str(script), "--model", str(self.model), "--port", str(port)]
        own = {"TMPDIR": str(self.work), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, "--shape", self.shape],
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            cwd=self.work,
            start_new_session=True,
            env={**environment(), **own},
        )
        processes = _Processes(process.pid)
        try:
            link = self._meet(name, port, process, log)
            try:
                yield link, processes
            finally:
                link.close()
        finally:
            processes.end()
            process.wait(10)

    def _meet(self, name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> Http | Stream:
        ends = time.monotonic() + START_S
        while time.monotonic() < ends and process.poll() is None:
            time.sleep(0.2)
            with contextlib.suppress(OSError, NotMeasuredError):
                if name not in PATHS:  # it takes one connection, which is the link itself
                    return Stream(port, self.pictures, self.answer_bytes, CONNECTIONS)
                first = Http(port, PATHS[name], self.pictures, 1)
                first.submit(0, 0)
                answered = first.done(5000)
                first.close()
                if answered:
                    return Http(port, PATHS[name], self.pictures, CONNECTIONS)
        told = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise NotMeasuredError(f"{name}: did not answer within {START_S:.0f} s: {(told or ['no word'])[0][:300]}")

    def _give_up(self, name: str, error: NotMeasuredError) -> None:
        say(f"NOT MEASURED: {name}: {error}")
        self.notes.append(f"NOT MEASURED: {name}: {error}")

    def _report(self, rate_per_s: float) -> Report:
        figures = {"session_images_per_s": median(self.bare), "half_load_per_s": rate_per_s}
        targets = []
        for name, per_s in self.saturated.items():
            every = [value for turn in self.latencies[name] for value in turn]
            figures |= {
                f"{name}_per_s": median(per_s),
                f"{name}_throughput_over_session": median(self.shares[name]),
                f"{name}_saturated_p50_ms": float(np.percentile(self.crowded[name], 50)),
                f"{name}_saturated_p99_ms": float(np.percentile(self.crowded[name], 99)),
                f"{name}_half_load_p50_ms": float(np.percentile(every, 50)),
                f"{name}_half_load_p99_ms": float(np.percentile(every, 99)),
                f"{name}_cpu_ms_per_answer": median(self.cpu_ms[name]),
            }
        ours = self.shares.get("andon", [])
        for name in self.pythons:
            pairs = list(zip(ours, self.shares.get(name, []), strict=False))
            if not pairs:
                continue
            tails = [
                float(np.percentile(one, 99) / np.percentile(other, 99))
                for one, other in zip(self.latencies["andon"], self.latencies[name], strict=False)
            ]
            figures[f"throughput_over_{name}"] = median(one / other for one, other in pairs)
            figures[f"half_load_p99_over_{name}"] = median(tails)
            targets += [
                Target(f"throughput_over_{name}", 1.0, at_least=True),
                Target(f"half_load_p99_over_{name}", 1.0, at_least=False),
            ]
        conditions = (
            f"{self.arguments.rounds} rounds; frames of {self.shape}; {IN_FLIGHT} in flight; {CONNECTIONS} connections "
            "at most; ratios are medians over rounds, percentiles over all answers"
        )
        return Report("peers_serving", figures, tuple(targets), (conditions, *self.notes))


class _Processes:
    """A server's processes: those of its session, and their children."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")

    def cpu_s(self) -> float:
        """Return the CPU time that they have used, user and system."""
        return sum(fields["cpu"] for fields in self._family().values())

    def end(self) -> None:
        """End them, at once in the end."""
        family = list(self._family())
        self._signal([self._leader], signal.SIGTERM)
        ends = time.monotonic() + 5
        while time.monotonic() < ends and any(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self._alive(family)):
            time.sleep(0.1)
        self._signal(self._alive(family), signal.SIGKILL)

    @staticmethod
    def _alive(family: list[int]) -> list[int]:
        return [pid for pid in family if Path(f"/proc/{pid}").exists()]

    @staticmethod
    def _signal(pids: list[int], number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _family(self) -> dict[int, dict[str, float]]:
        every = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    cpu_s = (int(fields[11]) + int(fields[12])) * self._tick_s
                    every[int(folder.name)] = {"parent": int(fields[1]), "session": int(fields[3]), "cpu": cpu_s}
        found = {self._leader}
        while True:
            more = {pid for pid, one in every.items() if one["parent"] in found or one["session"] in found} - found
            if not more:
                return {pid: every[pid] for pid in found if pid in every}
            found |= more


if __name__ == "__main__":
    sys.exit(main())
