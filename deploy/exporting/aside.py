"""An export that the console asked for, in a process of its own: `python -m deploy.exporting.aside`.

It gives way to everything else on the machine, and what it takes is gone when it ends. On stdin it is told what to
write; on stdout it tells how far it is, a JSON object in a line. It ends when its stdin does: whoever asked is gone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from config import log, plugins
from config.errors import AndonError
from config.home import Home
from config.log import logger
from deploy.exporting.command import FORMATS
from deploy.exporting.picked import all_of, write
from deploy.exporting.source import Room, Source, store_of
from deploy.exporting.whole import whole
from storage.addresses import database_url
from storage.console.wanted import Standing, Wanted
from storage.picks import Picks
from storage.query.service import QueryService

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL

_TELL_NS = 500_000_000
_NICE = 10


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    wanted: Wanted
    home: Path
    out: Path
    limit_bytes: int


class Writing:
    """One that runs; a thread of its own listens to it."""

    def __init__(self, order: _Order) -> None:
        self.standing = Standing()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.exporting.aside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C reaches the console alone, which ends it
        )
        self._order = order
        self._listener = threading.Thread(target=self._listen, name="export", daemon=True)
        self._listener.start()

    def stop(self) -> None:
        """End it, and return when nothing writes any more."""
        self._process.terminate()
        self._listener.join()

    def _listen(self) -> None:
        said, answers = self._process.stdin, self._process.stdout
        if said is None or answers is None:
            raise AssertionError("both are pipes")
        with contextlib.suppress(BrokenPipeError):  # it ended at once: then its code says so
            said.write(self._order.model_dump_json().encode() + b"\n")
            said.flush()  # and kept open: its end would end the process
        for line in answers:
            self.standing = Standing.model_validate_json(line)
        code = self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            said.close()
        answers.close()
        if not self.standing.ended:
            how = f"signal {-code}" if code < 0 else f"exit {code}"
            fault = f"the export was ended ({how}): the station's log says more"
            self.standing = self.standing.model_copy(update={"ended": True, "fault": fault})


class Exporting:
    """The formats of `andon export`, for the station of one state folder."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def begin(self, wanted: Wanted, out: Path, limit_bytes: int) -> Writing:
        """Begin to write the folder `out`; its pictures may take `limit_bytes`."""
        return Writing(_Order(wanted=wanted, home=self._home.path, out=out, limit_bytes=limit_bytes))


def main() -> int:
    """Read the order, write, and tell."""
    os.nice(_NICE)
    log.configure("export")
    order = _Order.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with, args=(os.getpid(),), daemon=True).start()
    try:
        counted = _write(order)
    except AndonError as error:
        logger().warning("export", error=str(error))
        _tell(Standing(ended=True, fault=str(error)))
        return error.exit_code
    _tell(Standing(done=counted.get("parts", 0), counted=counted, ended=True))
    return 0


def _end_with(process: int) -> None:
    """Wait until nobody listens any more."""
    sys.stdin.buffer.read()
    os.kill(process, 15)


def _write(order: _Order) -> dict[str, int]:
    home, wanted, url = Home(order.home), order.wanted, database_url()
    room = Room(order.limit_bytes)
    pictures = store_of(home)
    with contextlib.ExitStack() as stack:
        if pictures is not None:
            stack.callback(pictures.close)
        folder = stack.enter_context(whole(order.out))
        if wanted.product is not None:
            return _picks(url, home, wanted, folder, room)
        text = url.render_as_string(hide_password=False)
        source = stack.enter_context(Source(text, pictures, wanted.chosen, pictures=False))
        source.room, source.progress = room, _telling(*source.total())
        plugins.load(FORMATS, wanted.form).write(source, folder, parts_only=False)
        return dict(source.counted)


def _picks(url: URL, home: Home, wanted: Wanted, folder: Path, room: Room) -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        picks = Picks(url, home.path)
        stack.callback(picks.close)
        pictures = store_of(home)
        service = QueryService(url, pictures)
        stack.callback(service.close)
        return write(service, all_of(picks, str(wanted.product), wanted.camera), folder, room)


def _telling(total: int, more: bool) -> Callable[[int], None]:  # noqa: FBT001 - as Source.total has it
    """Return what tells how far an export is, twice a second at most."""
    told_ns = [0]

    def tell(done: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - told_ns[0] >= _TELL_NS:
            told_ns[0] = now_ns
            _tell(Standing(done=done, total=max(done, total), more=more))

    return tell


def _tell(standing: Standing) -> None:
    sys.stdout.write(standing.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
