"""Files that people write, and what else can stand where one should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from config import files
from config.errors import ConfigurationError


class Table(BaseModel):
    number: int


def test_the_mark_that_editors_of_windows_put_before_the_text_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "table.toml").write_bytes(b"\xef\xbb\xbfnumber = 3\r\n")
    assert files.read(tmp_path / "table.toml", Table).number == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("latin.toml", "name = 'é'".encode("latin-1"), "UTF-8"),
        ("wide.toml", "number = 3".encode("utf-16"), "UTF-8"),
        ("digits.toml", b"number = " + b"1" * 5000, "digits"),
        ("digits.json", b'{"number": ' + b"1" * 5000 + b"}", "digits"),
        ("deep.toml", b"number = " + b"[" * 100_000, "recursion"),
        ("long.toml", b"#" * 17_000_000, "16 MB"),
        ("empty.toml", b"", "number: Field required"),
    ],
)
def test_what_is_no_such_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{name}: .*{says}"):
        files.read(tmp_path / name, Table)


def test_what_is_no_file_at_all_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "device.toml").symlink_to("/dev/zero")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for name in ("pipe.toml", "folder.toml", "device.toml", "loop.toml", "none.toml", "a" * 300, "a\0b"):
        with pytest.raises(ConfigurationError) as refused:
            files.read(tmp_path / name, Table)
        assert str(tmp_path / name) in str(refused.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    files.must_exist(Path(__file__), "here")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "none", tmp_path / "loop", tmp_path / ("a" * 300), tmp_path / "a\0b"):
        with pytest.raises(ConfigurationError, match=r"^station.toml: key: "):
            files.must_exist(path, "station.toml: key")
