"""The peers' environments: made here, with pinned versions, from the index that pip is configured with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "andon" / "peers" / "venvs"
INSTALL_S = 480
_SERVED = ("onnxruntime==1.31.1", "numpy==2.4.6")  # the same runtime in every server's worker
REQUIREMENTS = {
    "anomalib": (
        "torch==2.13.0",  # a looser range brings several GB of CUDA packages
        "torchvision==0.28.0",
        "anomalib==2.7.0",
        "onnx==1.23.2",
        "onnxruntime==1.31.1",
        "onnxscript==0.7.2",
        "openvino==2026.4.1",
    ),
    "mosec": ("mosec==0.9.8", *_SERVED),
    "litserve": ("litserve==0.2.19", *_SERVED),
    # InferencePipeline of inference 1.8.3 alone: the whole brings torch and holds onnxruntime at 1.21
    "streamvision": ("streamvision==0.1.3", "onnxruntime==1.31.1", "numpy==2.2.6"),
    "ray": ("ray[serve]==2.60.0", *_SERVED),
}


class NotMeasuredError(Exception):
    """A peer could not be had or could not run: said loudly, and never taken for a passed target."""


def python_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the interpreter of peer `name`, installed if need be; raise NotMeasuredError with pip's reason."""
    home = folder / name
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS[name])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    sys.stderr.write(f"installing {name} into {home} (once) …\n")
    home.mkdir(parents=True, exist_ok=True)
    _call(name, [sys.executable, "-m", "venv", str(home)])
    quiet = ["--disable-pip-version-check", "--quiet", "--no-input"]
    _call(name, [str(python), "-m", "pip", "install", *quiet, *REQUIREMENTS[name]])
    stamp.write_text(wanted)
    return python


def _call(name: str, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"{name}: not installed within {INSTALL_S} s") from error
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [f"exit {done.returncode}"]
        raise NotMeasuredError(f"{name}: cannot be installed: {told[-1]}")
