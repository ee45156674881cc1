"""Languages: every text of the pages has its Korean, none is left over, placeholders agree, and the choice is right."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.console import assets, language
from storage.console.language import Language, chosen, say

CONSOLE = Path(language.__file__).parent
_LITERAL = r'"((?:[^"\\]|\\.)*)"'
_NO_LITERAL = re.compile(r"(?:\bsay|(?<![\w.])_)\((?!\s*\")(.{0,30})")
_MARKED = re.compile(r"english, values|[a-z_]+(?:\.[a-z_]+)*\)")  # the function itself; what `text` marks in a module


def _texts() -> Iterator[tuple[str, Path]]:
    """Yield every text that a template, a script or a module says."""
    for folder, pattern, call in (("templates", "*.html", r"(?<![\w.])_"), ("static", "*.js", r"\bsay")):
        for path in sorted((CONSOLE / folder).glob(pattern)):
            for found in re.finditer(rf"{call}\(\s*{_LITERAL}", path.read_text(encoding="utf-8")):
                yield json.loads(f'"{found[1]}"'), path
    for path in sorted(CONSOLE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "text":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}: text() takes a literal"
                yield str(node.args[0].value), path


def test_every_text_has_its_korean() -> None:
    missing = sorted({f"{path.name}: {text}" for text, path in _texts() if text not in language.WORDS[Language.KOREAN]})
    assert missing == []


def test_no_korean_is_left_over() -> None:
    said = {text for text, _ in _texts()}
    assert sorted(language.WORDS[Language.KOREAN].keys() - said) == []


def test_placeholders_agree() -> None:
    for english, korean in language.WORDS[Language.KOREAN].items():
        assert korean.strip(), english
        wanted = Counter(re.findall(r"\{\w+\}", english))
        assert Counter(re.findall(r"\{\w+\}", korean)) == wanted, f"{english} / {korean}"


def test_texts_are_literals() -> None:
    pages = [*(CONSOLE / "templates").glob("*.html"), *(CONSOLE / "static").glob("*.js")]
    for path in pages:
        for found in _NO_LITERAL.finditer(path.read_text(encoding="utf-8")):
            assert _MARKED.match(found[1]), f"{path.name}: {found[0]}: must be a literal"


def test_scripts_get_the_words_that_they_say_and_no_others() -> None:
    said = {text for text, path in _texts() if path.suffix == ".js"}
    served = json.loads(assets._WORDS["words/ko.json"])
    assert served == {english: language.WORDS[Language.KOREAN][english] for english in said}


def test_no_text_is_in_korean_beside_its_words() -> None:
    for path in [*(CONSOLE / "templates").glob("*.html"), *(CONSOLE / "static").glob("*.js")]:
        hangul = re.findall(r"[\uac00-\ud7a3]+", path.read_text(encoding="utf-8"))
        assert hangul in ([], ["한국어"]), path.name  # the switch names the other language in that language


@pytest.mark.parametrize(
    ("cookie", "accepted", "spoken"),
    [
        (None, None, "en"),
        (None, "ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        (None, "en-US,en;q=0.9,ko;q=0.8", "en"),
        (None, "fr, ko;q=0.2", "ko"),
        (None, "ko;q=0", "en"),
        ("ko", "en", "ko"),
        ("en", "ko", "en"),
        ("klingon", "ko", "ko"),
        ("", "x" * 9000, "en"),
        (None, "ko;q=nonsense,*", "en"),
    ],
)
def test_the_cookie_decides_else_the_browser(cookie: str | None, accepted: str | None, spoken: str) -> None:
    assert chosen(cookie, accepted) == spoken


def test_placeholders_are_filled_and_what_has_no_word_stays_english() -> None:
    assert say(Language.ENGLISH, "{n} parts of {all}", n=3) == "3 parts of {all}"
    assert say(Language.KOREAN, "no such text", n=1) == "no such text"
    assert say(Language.KOREAN, "Line {line}", line="<b>") == language.WORDS[Language.KOREAN]["Line {line}"].replace(
        "{line}", "<b>"
    )
