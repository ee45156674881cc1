"""Styles, scripts and icons, under an address that changes with their content: browsers keep them for good."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER = Path(__file__).parent / "static"
_VERSION = hashlib.sha256(
    b"".join(path.name.encode() + path.read_bytes() for path in sorted(_FOLDER.iterdir()))
).hexdigest()[:12]
PREFIX = f"/static/{_VERSION}"


class Assets(StaticFiles):
    """Serve the folder `static`."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file that may be kept for a year."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
