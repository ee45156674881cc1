"""Styles, scripts, words and icons, under an address that changes with their content: browsers keep them for good."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from storage.console.language import WORDS

_FOLDER = Path(__file__).parent / "static"
_SAID = re.compile(r'\bsay\(\s*("(?:[^"\\]|\\.)*")')  # a script's texts are literals: a test insists
_TEXTS = {json.loads(found[1]) for path in _FOLDER.glob("*.js") for found in _SAID.finditer(path.read_text("utf-8"))}


def _words(said: Mapping[str, str]) -> bytes:
    """Return what scripts say, by its English, as JSON: templates say the rest on their own."""
    ours = {english: said[english] for english in sorted(_TEXTS) if english in said}
    return json.dumps(ours, ensure_ascii=False, separators=(",", ":")).encode()


_WORDS = {f"words/{language}.json": _words(said) for language, said in WORDS.items()}
_VERSION = hashlib.sha256(
    b"".join(path.name.encode() + path.read_bytes() for path in sorted(_FOLDER.rglob("*")) if path.is_file())
    + b"".join(_WORDS.values())
).hexdigest()[:12]
PREFIX = f"/static/{_VERSION}"


class Assets(StaticFiles):
    """Serve the folder `static`, and beneath `words` what scripts say in other languages."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, which may be kept for a year."""
        if path in _WORDS:
            return _kept(Response(_WORDS[path], media_type="application/json"))
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file that may be kept for a year."""
        return _kept(super().file_response(full_path, stat_result, scope, status_code))


def _kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
