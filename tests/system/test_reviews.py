"""Findings and holds: what is refused, what is kept, and that each change has its entry in the audit trail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_servers import Servers
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from storage_process import store, verdict

from config.errors import EXIT_USAGE, InputError, StoreError
from config.messages import Judgement
from deploy.cli import main
from storage import audit
from storage.chain import Entry
from storage.reviews import Finding, Reviews

PART = "st-r1-00000007"


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    database = servers.database()
    store(database, verdict(7, Judgement.REJECT))  # one view "top", one defect
    yield database
    servers.drop(database)


@pytest.fixture
def reviews(url: str, tmp_path: Path) -> Iterator[Reviews]:
    made = Reviews(url, tmp_path)
    yield made
    made.close()


def trail(url: str, folder: Path) -> list[Entry]:
    """Return the entries, oldest first, of a trail that is whole up to the note."""
    noted = audit.Anchor(folder).read()
    with create_engine(url, poolclass=NullPool).connect() as connection, connection.begin():
        found = audit.verify(connection, {"note": noted} if noted else {})
        assert found.whole
        assert found.last == noted
        return audit.newest(connection, 100)[::-1]


def test_several_reviewers_may_differ(reviews: Reviews, url: str, tmp_path: Path) -> None:
    reviews.add(PART, "GOOD", "ann")
    reviews.add(PART, Finding.DEFECT, "bob", camera="top", region=0, defect_class="Kratzer", comment="tief\nund lang")
    reviews.add(PART, Finding.UNSURE, "eve", camera="top")
    found, held = reviews.of(PART)
    assert held is None
    assert [(one.reviewer, one.finding, one.camera, one.region) for one in found] == [
        ("ann", "GOOD", None, None),
        ("bob", "DEFECT", "top", 0),
        ("eve", "UNSURE", "top", None),
    ]
    entries = trail(url, tmp_path)
    assert [(entry.who, entry.action, entry.subject) for entry in entries] == [
        (name, "review.added", PART) for name in ("ann", "bob", "eve")
    ]
    assert json.loads(str(entries[1].after)) == {
        "number": found[1].number,
        "finding": "DEFECT",
        "camera": "top",
        "region": 0,
        "defect_class": "Kratzer",
        "comment": "tief\nund lang",
    }


def test_hold_is_one_and_its_release_says_what_it_was(reviews: Reviews, url: str, tmp_path: Path) -> None:
    placed = reviews.hold(PART, "customer complaint 12", "ann")
    assert reviews.of(PART) == ([], placed)
    with pytest.raises(InputError, match=r"on hold already by ann \(customer complaint 12\)"):
        reviews.hold(PART, "again", "bob")
    assert reviews.release(PART, "bob", "answered") == placed
    with pytest.raises(InputError, match="is not on hold"):
        reviews.release(PART, "bob")
    placed_entry, released = trail(url, tmp_path)
    assert (placed_entry.action, placed_entry.after) == ("hold.placed", '{"reason":"customer complaint 12"}')
    assert (released.action, released.who, released.after) == ("hold.released", "bob", '{"reason":"answered"}')
    assert json.loads(str(released.before))["holder"] == "ann"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"part_id": "st-r1-00000008"}, "no such part"),
        ({"part_id": ""}, "part_id"),
        ({"part_id": "a\x00b"}, "part_id"),
        ({"finding": "BAD"}, "GOOD, DEFECT, UNSURE"),
        ({"reviewer": " "}, "reviewer"),
        ({"reviewer": "x" * 201}, "reviewer"),
        ({"camera": "left"}, "no such view, but top"),
        ({"region": 0}, "name its camera"),
        ({"camera": "top", "region": 1}, "1 defects"),
        ({"camera": "top", "region": -1}, "1 defects"),
        ({"camera": "top", "region": 2**70}, "1 defects"),
        ({"defect_class": "../etc"}, "defect_class"),
        ({"defect_class": "Good"}, "not 'good'"),
        ({"finding": "GOOD", "defect_class": "scratch"}, "DEFECT only"),
        ({"comment": "x" * 2001}, "comment"),
        ({"comment": "\x1b[2J"}, "comment"),
        ({"comment": "\udc80"}, "comment"),
    ],
)
def test_nonsense_is_refused_and_leaves_nothing(
    reviews: Reviews, url: str, tmp_path: Path, wrong: dict[str, Any], named: str
) -> None:
    said: dict[str, Any] = {"part_id": PART, "finding": "DEFECT", "reviewer": "ann"} | wrong
    with pytest.raises(InputError, match=named):
        reviews.add(**said)
    assert reviews.of(PART) == ([], None)
    assert trail(url, tmp_path) == []


def test_absent_server_is_named(reviews: Reviews, servers: Servers) -> None:
    servers.postgres.stop()
    with pytest.raises(StoreError, match="PostgreSQL"):
        reviews.add(PART, "GOOD", "ann")
    servers.ready()
    reviews.add(PART, "GOOD", "ann")


def test_commands(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANDON_DATABASE_URL", url)
    where = ("--home", str(tmp_path))

    def andon(*words: str) -> tuple[int, str]:
        code = main([*words, *where])
        answer = capsys.readouterr()
        return code, answer.out + answer.err

    assert "nobody has said anything" in andon("review", PART)[1]
    code, said = andon("review", PART, "--finding", "defect", "--class", "dent", "--comment", "left", "--by", "ann")
    assert code == 0
    assert "dent" in said
    assert andon("hold", PART, "--reason", "complaint", "--by", "ann") == (0, f"{PART} is on hold: complaint\n")
    code, said = andon("review", PART, "--json")
    answer = json.loads(said)
    assert (answer["reviews"][0]["defect_class"], answer["hold"]["holder"]) == ("dent", "ann")
    assert andon("release", PART) == (0, f"{PART} is released; ann had kept it: complaint\n")
    assert trail(url, tmp_path)[-1].who != "ann"  # the account's name
    assert andon("release", PART)[0] == EXIT_USAGE
    code, said = andon("review", "nothing", "--finding", "GOOD")
    assert (code, said) == (EXIT_USAGE, "andon: part_id 'nothing': no such part is stored\n")
    assert andon("review", PART, "--comment", "lost")[0] == EXIT_USAGE
