"""What the console asks, of a history of millions of parts, beside the emptiest question in the same run.

The history is made in an embedded PostgreSQL of its own (`deploy/bench/history.py`), which is then started anew with
the settings of every station. Each question is asked again and again, every time with other parameters; what it needs
is in memory by then, mostly the operating system's. `query_p95_ms` is that of the slowest question,
`statistics_p95_ms` that of the slowest one of the Statistics page; `query_cpu_p95_ms` and `statistics_cpu_p95_ms` are
what the costliest ones cost this process and the server together, since on a machine that does other things too the
clock tells of those.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from config.errors import ServiceError
from deploy.bench import history
from deploy.bench.history import History
from deploy.bench.questions import Question, questions
from deploy.bench.report import Report, Target
from deploy.servers import Postgres
from storage.console.memory import settle
from storage.migrate import migrate
from storage.query.service import QueryService

ROWS = 1_000_000
_ROUNDS = 40
_WARM_UP = 3  # rounds that do not count
_TARGET_MS = 50.0
_STATISTICS = "statistics_"  # how the names of that page's questions begin: each counts up to 30 000 rows
_STATISTICS_TARGET_MS = 50.0
_DRAWN = 8  # questions, the slowest ones
_READY_S = 60.0
_STOP_S = 120.0
_READ_BYTES = 1 << 20
_SERVING = text("SELECT pid FROM pg_stat_activity WHERE application_name = 'andon query'")
LOADING = (  # what is being made is made again if the machine dies
    *("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off", "-c", "autovacuum=off"),
    *("-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "max_wal_size=8GB"),
    *("-c", "maintenance_work_mem=256MB", "-c", "work_mem=64MB"),
)


def run(rows: int = ROWS) -> Report:
    """Make a history of so many verdicts, ask, and report."""
    with tempfile.TemporaryDirectory(prefix="andon-bench-", dir="/var/tmp") as name:  # /tmp may be memory
        folder = Path(name)
        folder.chmod(0o755)  # the server's account must be able to enter
        server = Postgres(folder)
        with running(server, *LOADING):
            migrate(server.url)
            made = History(rows)
            history.make(server.url, made, _say)
        with running(server):
            _warm(folder / "postgres" / "base")
            return _measure(server.url, made)


def _measure(url: str, made: History) -> Report:
    random = Random(0)  # noqa: S311 - the same questions each time
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    whole: list[bool] = []
    service, engine = QueryService(url), create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for number in range(_WARM_UP + _ROUNDS):
            _say(f"round {number + 1} of {_WARM_UP + _ROUNDS}")
            asked: dict[str, Question] = {"bare": lambda _: connection.execute(text("SELECT 1")).scalar() == 1}
            if number == _WARM_UP:
                settle()  # as the console does
            pids = connection.execute(_SERVING).scalars().all()
            for name, ask in {**asked, **questions(made, random)}.items():
                began_ms, cpu_began_ms = time.perf_counter() * 1e3, _cpu_ms(pids)
                found = ask(service)
                if number >= _WARM_UP:
                    wall.setdefault(name, []).append(time.perf_counter() * 1e3 - began_ms)
                    cpu.setdefault(name, []).append(_cpu_ms(pids) - cpu_began_ms)
                    whole.append(found)
    service.close()
    bare, _ = wall.pop("bare"), cpu.pop("bare")
    pages = [name for name in wall if not name.startswith(_STATISTICS)]
    figures_of = [name for name in wall if name.startswith(_STATISTICS)]
    figures = {
        "rows": float(made.parts),
        "bare_p50_ms": median(bare),
        "bare_p95_ms": _p95(bare),
        "query_p95_ms": max(_p95(wall[name]) for name in pages),
        "query_cpu_p95_ms": max(_p95(cpu[name]) for name in pages),
        "statistics_p95_ms": max(_p95(wall[name]) for name in figures_of),
        "statistics_cpu_p95_ms": max(_p95(cpu[name]) for name in figures_of),
        "unfinished_share": 1 - sum(whole) / len(whole),
    }
    for name, times in sorted(wall.items(), key=lambda item: -_p95(item[1])):
        figures |= {f"{name}_p50_ms": median(times), f"{name}_p95_ms": _p95(times)}
    slowest = sorted(wall, key=lambda name: -_p95(wall[name]))[:_DRAWN]
    samples = {name: wall[name] for name in slowest}
    targets = (
        Target("query_p95_ms", _TARGET_MS, at_least=False),
        Target("statistics_p95_ms", _STATISTICS_TARGET_MS, at_least=False),
    )
    return Report("query", figures, targets, samples_ms=samples)


@contextmanager
def running(server: Postgres, *settings: str) -> Iterator[None]:
    """Run the server for the time of a `with` block."""
    server.prepare()
    user, group = server.user() or (None, None)
    process = subprocess.Popen(
        [*server.command(), *settings],
        env=server.environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        group=group,
        extra_groups=[] if user else None,
    )
    try:
        ends_s = time.monotonic() + _READY_S
        while not server.ready():
            if process.poll() is not None or time.monotonic() > ends_s:
                raise ServiceError("PostgreSQL did not become ready")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(server.stop_signal)
        process.wait(_STOP_S)


def _warm(files: Path) -> None:
    """Read the tables and indexes once, so that the operating system has of them what it has room for."""
    for path in sorted(files.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(_READ_BYTES):
                    pass


def _p95(times_ms: Sequence[float]) -> float:
    return sorted(times_ms)[min(len(times_ms) - 1, int(0.95 * len(times_ms)))]


def _cpu_ms(pids: Sequence[int]) -> float:
    """Return how long this process and the server's have been on a core."""
    served_ns = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)
    return time.process_time() * 1e3 + served_ns / 1e6


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
