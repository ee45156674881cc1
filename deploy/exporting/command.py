"""`andon export`: from the command line to a folder or file."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from config import plugins
from config.errors import InputError
from config.home import Home, default_path
from deploy import choosing
from deploy.database import database
from deploy.exporting.source import Source, store_of
from deploy.exporting.whole import whole

FORMATS = "deploy.exporting.formats"
_PROGRESS_NS = 2_000_000_000
_NOTES = {
    "images_lost": "images are stored no more",
    "images_reduced": "images are smaller than the camera's: have the recipe keep all pixels to learn from",
    "views_without_image": "views have no stored image and were left out",
    "views_unknown": "views were left out: nobody knows whether they are good",
}


def export(arguments: argparse.Namespace) -> int:
    """Write what is meant; say what was written."""
    chosen = choosing.read(arguments)
    form = plugins.load(FORMATS, arguments.form)
    out: Path = arguments.out.absolute()
    single = form.SUFFIX is not None and out.suffix == form.SUFFIX
    if single and arguments.images:
        raise InputError(f"--images: {out.name} is one file: name a folder")
    home = Home(arguments.home or default_path())
    begin_ns = time.monotonic_ns()
    with database(home, "export") as url:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half written is removed, however it ends
        pictures = store_of(home)
        with Source(url, pictures, chosen, pictures=arguments.images) as source:
            if not arguments.json:
                source.progress = _Progress(*source.total())
            with whole(out, f"parts{form.SUFFIX}" if single else None) as folder:
                form.write(source, folder, parts_only=single)
        if pictures is not None:
            pictures.close()
    _tell(arguments, out, source.counted, (time.monotonic_ns() - begin_ns) / 1e9)
    return 0


class _Progress:
    """Show every two seconds how far an export is."""

    def __init__(self, total: int, more: bool) -> None:  # noqa: FBT001 - as Source.total has it
        self._of = f"of {total:,}{' or more' if more else ''}"
        self._shown_ns = time.monotonic_ns()

    def __call__(self, done: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._shown_ns >= _PROGRESS_NS:
            self._shown_ns = now_ns
            sys.stderr.write(f"export: {done:,} {self._of} parts\n")
            sys.stderr.flush()


def _tell(arguments: argparse.Namespace, out: Path, counted: Counter[str], took_s: float) -> None:
    if arguments.json:
        said = {"out": str(out), "as": arguments.form, "parts": 0, "images": 0, **counted, "took_s": round(took_s, 3)}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    written = ", ".join(
        f"{counted[name]:,} {name}" for name in ("parts", "views", "defects", "images") if counted[name]
    )
    sys.stdout.write(f"{out}: {written or 'no parts'} in {took_s:.1f} s\n")
    for name, note in _NOTES.items():
        if counted[name]:
            sys.stdout.write(f"note: {counted[name]:,} {note}\n")
