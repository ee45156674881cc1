"""Fetch what learning needs into the environment that the station runs in: pip's work, told as it goes.

The line does not notice: what it has loaded stays loaded, and pip changes nothing that the constraints hold.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import config
from config.extras import LEARNING, Fetch, Fetching, Step, requirements
from config.log import logger
from deploy.child import die_with_parent, meaning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

_CONSTRAINTS = Path(config.__file__).parents[1] / "constraints.txt"  # beside the rooms in a checkout; no wheel has it
_PROBE = "import torch, onnx, onnxscript"
_LOOK_S = 0.5
_SAID = 4  # last lines of what pip said, if it fails
_DOWNLOADING = re.compile(r"\s*Downloading (\S+) \(([\d.]+) ([kMG]?B|bytes)\)")
_BYTES = {"bytes": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def fetch(fetching: Fetching, wanted: Fetch) -> None:
    """Have pip install what learning needs, and say how far it is; what kept it from it is what is said last."""
    needed = requirements(LEARNING)
    said = _pip(fetching, wanted, needed)
    if said is None and not _loads():  # an earlier fetch was cut short in the middle of its files
        logger().warning("what learning needs is there and does not load: it is installed anew")
        said = _pip(fetching, wanted, ["--force-reinstall", "--no-deps", *needed])
    if said is None and not _loads():
        said = f"it is installed and does not load: {sys.executable} -c {_PROBE!r} says why"
    if said is not None:
        logger().warning("what learning needs was not fetched", error=said)
        fetching.tell(wanted.model_copy(update={"step": Step.FAILED, "detail": said}))
        return
    logger().info("what learning needs is there", packages=needed)
    fetching.tell(wanted.model_copy(update={"step": Step.DONE}))


def _loads() -> bool:
    return subprocess.run([sys.executable, "-c", _PROBE], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _pip(fetching: Fetching, wanted: Fetch, what: Sequence[str]) -> str | None:
    """Run `pip install`; return what it said last if it failed."""
    constraints = ["--constraint", str(_CONSTRAINTS)] if _CONSTRAINTS.is_file() else []
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    command += ["--progress-bar", "off", *constraints, *what]
    # downloads lie beside the lessons while they come: a disk of the station's own, and where it is seen how much came
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=fetching.path.parent) as folder:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": folder, "PYTHONUNBUFFERED": "1"},
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads here
        )
        last: list[str] = []
        errors: list[str] = []
        told = wanted
        with process, cast("IO[bytes]", process.stdout) as output:
            for line in _lines(output):
                if line:
                    last = [*last, line][-_SAID:]
                if line.startswith("ERROR"):
                    errors = [*errors, line][-_SAID:]
                now = _further(told, line)
                if now.step is Step.DOWNLOADING:
                    now = now.model_copy(update={"done_bytes": min(_size(Path(folder), now.file), now.total_bytes)})
                if now != told:
                    told = now
                    fetching.tell(told)
    if process.returncode == 0:
        return None
    return " · ".join(errors or last) or f"pip: {meaning(process.returncode)}"


def _lines(source: IO[bytes]) -> Iterator[str]:
    """Yield lines as they come, and an empty one whenever none came for a while."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            if not selector.select(_LOOK_S):
                yield ""
                continue
            more = os.read(source.fileno(), 65536)
            if not more:
                break
            *lines, pending = (pending + more).split(b"\n")
            yield from (line.decode(errors="replace").strip() for line in lines)
    yield pending.decode(errors="replace").strip()


def _further(now: Fetch, line: str) -> Fetch:
    """Return how far a fetch is by a line that pip says."""
    found = _DOWNLOADING.match(line)
    if found:
        name, size, unit = found.groups()
        total_bytes = round(float(size) * _BYTES[unit])
        return now.model_copy(
            update={"step": Step.DOWNLOADING, "file": name, "done_bytes": 0, "total_bytes": total_bytes}
        )
    if line.startswith("Installing collected packages"):
        return now.model_copy(update={"step": Step.INSTALLING})
    if line.startswith(("Collecting", "Processing", "Requirement already satisfied", "Using cached")):
        return now.model_copy(update={"step": Step.FINDING})
    return now


def _size(folder: Path, name: str) -> int:
    """Return how much is there of the file that is on its way."""
    for path in folder.glob(f"*/{name}"):
        with contextlib.suppress(FileNotFoundError):  # it went where it belongs
            return path.stat().st_size
    return 0
