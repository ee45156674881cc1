from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import BundleError
from inference import archive
from inference.bundle import Bundle
from inference.keys import TrustStore

NAMES = st.text("abcxyz0189._-/", min_size=1, max_size=12).filter(lambda name: not name.endswith("/"))


@given(st.dictionaries(NAMES, st.binary(max_size=300), min_size=1, max_size=5))
def test_archives_come_back_and_are_real_zip_files(members: dict[str, bytes]) -> None:
    packed = archive.pack(members)
    assert archive.unpack(packed) == members
    with zipfile.ZipFile(io.BytesIO(packed)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == members


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_passes(write_brightness: Callable[..., Path], trust: TrustStore, data: st.DataObject) -> None:
    path = write_brightness()
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"brightness\.andon: "):
        Bundle.open(path, trust)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_no_bytes_do_worse_than_a_clear_error(tmp_path: Path, trust: TrustStore, content: bytes) -> None:
    path = tmp_path / "x.andon"
    for data in (content, b"PK\x03\x04" + content, content + b"PK\x05\x06" + bytes(18)):
        path.write_bytes(data)
        with pytest.raises(BundleError):
            Bundle.open(path, trust)
