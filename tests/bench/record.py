"""How soon a record is on disk: `PYTHONPATH=tests python tests/bench/record.py [--rate N] [--seconds N]`, JSON out.

The real storage process with its servers, and one sender: verdicts at an even rate, crops beside some of them. What is
measured is the call that gives a record to the courier, until the sender has `Recorded` in its hands; `late` is how
long after its time the sender made that call. Beside it, in the same run and on the same disk, a bare loop of append
and fdatasync of as many bytes: once while nothing else happens, once while PostgreSQL takes the same records.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zmq
from live_servers import Servers, state_folder
from storage_process import MS, Sender, Storage, verdict

from config.messages import Evidence, GateReport, Verdict, encode
from storage.migrate import migrate

S = 1_000_000_000
CROP = b"\xff\xd8" + np.random.default_rng(0).bytes(20_000) + b"\xff\xd9"  # JPEGs do not deflate either
BARE_PER_S = 50  # beside the load: seldom enough to be no load itself

Made = tuple[Verdict | GateReport | Evidence, list[bytes]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="verdicts a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--crops", type=float, default=0.1, help="share of the verdicts that have a crop")
    arguments = parser.parse_args()
    steps = _steps(arguments.rate * arguments.seconds, arguments.crops)
    size = sum(len(b"".join(encode(*made))) for step in steps for made in step) // len(steps)
    with state_folder() as folder:
        idle = _bare(folder / "idle", size, arguments.rate, 2)
        servers = Servers(folder)
        storage = None
        try:
            servers.ready()
            migrate(servers.postgres.url)
            storage = Storage(folder, servers.postgres.url, servers.valkey.url, free_disk_mb=0)
            storage.start()
            sender = storage.sender()
            _send(sender, steps[: arguments.rate // 2], arguments.rate)  # a first connection, a first partition
            sender.delays_ms.clear()
            with multiprocessing.get_context("fork").Pool(1) as pool:
                bare = pool.apply_async(_bare, (folder / "loaded", size, BARE_PER_S, arguments.seconds))
                late_ms = _send(sender, steps[arguments.rate // 2 :], arguments.rate)
                loaded = bare.get()
            drained_s = _drained(storage, len(steps))
            assert storage.process is not None
            figures = {
                "verdicts_per_s": arguments.rate,
                "records": len(sender.delays_ms),
                "bytes_per_verdict": size,
                "record": _spread(sender.delays_ms),
                "late": _spread(late_ms),
                "bare_idle": _spread(idle),
                "bare_loaded": _spread(loaded),
                "drained_after_s": round(drained_s, 2),
                "storage_cpu_s": round(_cpu_s(storage.process.pid), 2),
            }
            sys.stdout.write(json.dumps(figures) + "\n")
        finally:
            if storage is not None:
                storage.close()
            for server in (servers.postgres, servers.valkey):
                server.kill()


def _steps(count: int, crops: float) -> list[list[Made]]:
    """Make each verdict, with its crop if it has one, before the clock runs."""
    steps: list[list[Made]] = []
    for number in range(count):
        message, payload = verdict(number)
        step: list[Made] = [(message, payload)]
        if int((number + 1) * crops) > int(number * crops):
            about = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
            crop = Evidence(**about, purpose="crop", region=0, width_px=128, height_px=128)
            step.append((crop, [CROP]))
        steps.append(step)
    return steps


def _send(sender: Sender, steps: Sequence[Sequence[Made]], rate: int) -> list[float]:
    """Send each step at its time, take every answer at once; return how late each call was, in ms."""
    gc.collect()
    gc.disable()  # what the sender itself does is not the question
    late_ms = []
    wakes = sender.socket.getsockopt(zmq.FD)
    begin_ns = time.monotonic_ns()
    for number, step in enumerate(steps):
        due_ns = begin_ns + number * S // rate
        while (now_ns := time.monotonic_ns()) < due_ns:
            if sender.socket.poll(0):
                sender.take(0)
            else:
                select.select([wakes], [], [], (due_ns - now_ns) / S)  # poll() knows whole milliseconds only
        late_ms.append((now_ns - due_ns) / MS)
        for made in step:
            sender.send(*made)
        sender.take(0)
    sender.finish()
    gc.enable()
    return late_ms


def _bare(path: Path, size: int, rate: int, seconds: int) -> list[float]:
    """Append `size` bytes and sync them, `rate` times a second; return how long each took, in ms."""
    content = np.random.default_rng(0).bytes(size)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    took_ms = []
    begin_ns = time.monotonic_ns()
    for number in range(rate * seconds):
        while (wait_ns := begin_ns + number * S // rate - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / S)
        now_ns = time.monotonic_ns()
        os.write(file, content)
        os.fdatasync(file)
        took_ms.append((time.monotonic_ns() - now_ns) / MS)
    os.close(file)
    path.unlink()
    return took_ms


def _drained(storage: Storage, count: int) -> float:
    begin_s = time.monotonic()
    while storage.stored() < count:
        assert time.monotonic() < begin_s + 120, storage.said()
        time.sleep(0.1)
    return time.monotonic() - begin_s


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spread(values_ms: Sequence[float]) -> dict[str, float]:
    points = np.percentile(values_ms, [50, 99, 99.9, 100])
    return {f"{name}_ms": round(float(at), 3) for name, at in zip(("p50", "p99", "p99.9", "max"), points, strict=True)}


if __name__ == "__main__":
    main()
