"""The languages of the pages: English text is the key, `words/<language>/<page>.json` says it in another language.

A template says `_("Defects")`, a script `say("{n} parts", {n: 3})`, a module marks with `text("Pass")` what a template
translates later. Each text must be a literal there: a test finds them all and insists that each has its Korean.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path

_FOLDER = Path(__file__).parent / "words"
_ACCEPTED = re.compile(r"\s*([a-zA-Z]{2})(?:-[a-zA-Z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")
COOKIE = "language"


class Language(StrEnum):
    """What the pages speak; the value is a tag of BCP 47."""

    ENGLISH = "en"
    KOREAN = "ko"


def text(english: str) -> str:
    """Return `english` as it is: it marks a text that is translated where it is shown."""
    return english


def read(language: Language) -> dict[str, str]:
    """Return what is said in `language`, by its English; raise ValueError where two pages' files disagree."""
    said: dict[str, str] = {}
    for path in sorted((_FOLDER / language).glob("*.json")):
        for english, other in json.loads(path.read_text(encoding="utf-8")).items():
            if said.setdefault(english, other) != other:
                raise ValueError(f"{path}: {english!r} is {said[english]!r} in another file, and {other!r} in this one")
    return said


WORDS = {language: read(language) for language in Language}


def say(language: Language, english: str, **values: object) -> str:
    """Return a text in `language` with its `{placeholders}` filled; what has no word there stays English."""
    said = WORDS[language].get(english, english)
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), said)


def chosen(cookie: str | None, accepted: str | None) -> Language:
    """Return the language to speak: what the `cookie` says, else the best of `Accept-Language` (RFC 9110, 12.5.4)."""
    known = {language.value for language in Language}
    if cookie in known:
        return Language(cookie)
    wanted: dict[str, float] = {}
    for item in (accepted or "").split(",")[:20]:
        if (found := _ACCEPTED.fullmatch(item)) and (tag := found[1].lower()) in known:
            wanted[tag] = max(wanted.get(tag, 0.0), float(found[2] or 1))
    best = max(wanted, key=wanted.__getitem__, default=Language.ENGLISH.value)
    return Language(best) if wanted.get(best, 0.0) > 0 else Language.ENGLISH
