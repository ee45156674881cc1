from __future__ import annotations

import pytest

from config.errors import ConfigurationError
from storage.addresses import database_url, redis_url


def test_database_url_gets_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDON_DATABASE_URL", " postgresql://me:secret@host/andon ")
    assert database_url().render_as_string(hide_password=False) == "postgresql+psycopg://me:secret@host/andon"


@pytest.mark.parametrize(
    "text",
    ["", "  ", "nonsense:secret", "postgresql://me:secret@host:port/andon", "sqlite:///secret", "postgresql://h"],
)
def test_wrong_database_url_names_the_variable_and_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ANDON_DATABASE_URL", text)
    with pytest.raises(ConfigurationError, match=r"ANDON_DATABASE_URL.*postgresql\+psycopg://") as raised:
        database_url()
    assert "secret" not in str(raised.value)


def test_redis_url_is_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDON_REDIS_URL", "unix:///run/valkey.sock")
    assert redis_url() == "unix:///run/valkey.sock"


@pytest.mark.parametrize("text", ["", "http://me:secret@host", "redis://me:secret@host:port"])
def test_wrong_redis_url_names_the_variable_and_shows_no_password(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ANDON_REDIS_URL", text)
    with pytest.raises(ConfigurationError, match=r"ANDON_REDIS_URL.*redis://") as raised:
        redis_url()
    assert "secret" not in str(raised.value)
