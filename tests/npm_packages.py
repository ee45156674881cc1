"""Packages of npm that tests run as independent peers: `make` installs them, once for each user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NODE = shutil.which("node") or "node"
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "andon" / "peers"


def environment(package: str) -> dict[str, str]:
    """Return the environment in which node finds `package`; skip where it is not installed."""
    if shutil.which("node") is None:
        pytest.skip(f"node is not installed (Debian: nodejs, npm): NOT tried against {package}")
    if not (FOLDER / "node_modules" / package).is_dir():
        pytest.skip(f"{package} is not in {FOLDER} (make installs it): NOT tried against it")
    own = FOLDER / "config" / os.environ.get("PYTEST_XDIST_WORKER", "main")  # keys are made once, not at every start
    return {**os.environ, "NODE_PATH": str(FOLDER / "node_modules"), "XDG_CONFIG_HOME": str(own)}
