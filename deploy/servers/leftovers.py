"""Processes that still hold a data folder although their server is gone, found through /proc and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from config.errors import StoreError
from config.log import logger

_ORDERLY_S = 1.0
_KILLED_S = 5.0  # a killed process ends at once, unless it waits for a disk


def end(program: str, data: Path, ask: signal.Signals) -> int:
    """End every process that runs `program` in the folder `data`, first by the signal `ask`; return how many.

    A server's working folder is its data folder, so its processes are found even when they are orphans: a busy
    PostgreSQL backend outlives its killed postmaster and blocks the next start with "pre-existing shared memory block
    is still in use". The caller holds the state folder's lock, so none of them can be wanted.
    Raise StoreError where one does not end.
    """
    with contextlib.ExitStack() as opened:
        found = {}
        for pid in _running(program, data):
            with contextlib.suppress(ProcessLookupError):
                found[pid] = os.pidfd_open(pid)
                opened.callback(os.close, found[pid])
        # Looked up again: a descriptor opened after its process ended stands for whoever has got that pid since.
        pids = sorted(found.keys() & set(_running(program, data))) if found else []
        if not pids:
            return 0
        log = logger().bind(program=program, pids=pids)
        log.warning("ending leftover processes of a server")
        remaining = {found[pid] for pid in pids}
        for sent, within_s in ((ask, _ORDERLY_S), (signal.SIGKILL, _KILLED_S)):
            _send(remaining, sent)
            remaining = _await(remaining, within_s)
        if remaining:
            raise StoreError(
                f"{data}: processes {pids} left by {program} do not end although killed: is a disk not answering?"
            )
        log.info("ended leftover processes of a server")
    return len(pids)


def _running(program: str, data: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # A zombie has no working folder any more: it holds nothing and is passed over.
            if (entry / "comm").read_text() == f"{program}\n" and (entry / "cwd").readlink() == data:
                yield int(entry.name)
        except OSError:  # it ended meanwhile, or belongs to an account that we may not look into
            continue


def _send(descriptors: set[int], sent: signal.Signals) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, sent)


def _await(descriptors: set[int], within_s: float) -> set[int]:
    """Return those whose processes have not ended within `within_s`."""
    remaining = set(descriptors)
    poller = select.poll()
    for descriptor in remaining:
        poller.register(descriptor, select.POLLIN)
    until_s = time.monotonic() + within_s
    while remaining and (left_s := until_s - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(left_s * 1000):
            poller.unregister(descriptor)
            remaining.discard(descriptor)
    return remaining
