"""The audit trail in a real database: many writers, forbidden changes, everything that goes round the prohibition."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from live_servers import Servers
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from config.errors import EXIT_FAILURE, EXIT_USAGE, InputError
from deploy.cli import main
from storage import audit
from storage.audit import Anchor
from storage.chain import RESTORED, Head, Verification


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    database = servers.database()
    yield database
    servers.drop(database)


@pytest.fixture
def engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool)


def enter(connection: Connection, subject: str, folder: Path | None = None, action: str = "hold.placed") -> Head:
    with connection.begin():
        head = audit.append(connection, "quality", action, subject, None, {"reason": "grün"})
    if folder is not None:
        Anchor(folder).note(connection, head)
    return head


def verified(engine: Engine, **anchors: Head) -> Verification:
    with engine.connect() as connection, connection.begin():
        return audit.verify(connection, anchors)


def tamper(engine: Engine, statement: str) -> None:
    """Do what the trigger forbids, as the table's owner can."""
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_is_append_only"))
        connection.execute(text(statement))
        connection.execute(text("ALTER TABLE audit ENABLE TRIGGER audit_is_append_only"))


def test_many_writers_leave_one_chain_and_one_note(engine: Engine, tmp_path: Path) -> None:
    def write(writer: int) -> None:
        with engine.connect() as connection:
            for number in range(10):
                enter(connection, f"part-{writer}-{number}", tmp_path)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(30)
    noted = Anchor(tmp_path).read()
    assert noted is not None
    assert noted.number == 40
    assert verified(engine, note=noted) == Verification(noted)


def test_entry_goes_with_its_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        enter(connection, "kept")
        with connection.begin() as transaction:
            audit.append(connection, "me", "hold.placed", "never")
            transaction.rollback()
        head = enter(connection, "after")
    assert head.number == 2
    assert verified(engine, note=head).whole


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
def test_database_forbids_changes(engine: Engine, statement: str) -> None:
    with engine.connect() as connection:
        enter(connection, "a")
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))


def test_every_column_of_every_row_is_guarded(engine: Engine) -> None:
    with engine.connect() as connection:
        heads = [enter(connection, f"part-{number}") for number in range(1, 4)]
    edits = {
        "number": "number + 10",
        "at": "at + interval '1 microsecond'",
        "who": "who || ' '",
        "action": "upper(action)",
        "subject": "''",
        "before": "'{}'",
        "after": "NULL",
        "hash": "repeat('0', 64)",
    }
    for row in (1, 2, 3):
        for column, value in edits.items():
            edit = f"UPDATE audit SET {column} = {value} WHERE number = {row}"  # noqa: S608 - our own words
            tamper(engine, f"CREATE TABLE kept AS TABLE audit; {edit}")
            assert verified(engine, note=heads[-1]).first_wrong == row, (row, column)
            tamper(engine, "DELETE FROM audit; INSERT INTO audit TABLE kept; DROP TABLE kept")
    assert verified(engine, note=heads[-1]).whole
    tamper(engine, "UPDATE audit SET at = 'infinity' WHERE number = 2")
    assert verified(engine).first_wrong == 2


def test_note_is_never_replaced_by_a_trail_that_lacks_it(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as connection:
        for subject in "abc":
            head = enter(connection, subject, tmp_path)
        tamper(engine, "DELETE FROM audit WHERE number = 3")
        assert verified(engine).whole  # nothing in the database can tell
        for subject in "cde":
            enter(connection, subject, tmp_path)
    assert Anchor(tmp_path).read() == head
    found = verified(engine, note=head)
    assert (found.first_wrong, found.whole) == (3, False)


def test_note_that_is_behind_is_no_fault_and_catches_up(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as connection:
        first = enter(connection, "a", tmp_path)
        enter(connection, "killed before it was noted")
        assert Anchor(tmp_path).read() == first
        assert verified(engine, note=first).whole
        assert enter(connection, "c", tmp_path) == Anchor(tmp_path).read()


def test_note_that_cannot_be_written_is_no_error(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as connection:
        enter(connection, "a", tmp_path / "nowhere")
        (tmp_path / "audit.json").write_text("{")
        enter(connection, "b", tmp_path)
    assert (tmp_path / "audit.json").read_text() == "{"


@pytest.mark.parametrize(
    "wrong",
    [
        {"who": ""},
        {"who": "a\nb"},
        {"subject": "x" * 201},
        {"action": "placed"},
        {"after": {"x": float("nan")}},
        {"after": {"x": object()}},
        {"before": {"x": "y" * 70_000}},
        {"subject": "\udc80"},
    ],
)
def test_what_no_entry_can_say_is_refused(engine: Engine, wrong: dict[str, object]) -> None:
    fields = {"who": "me", "action": "hold.placed", "subject": "part"} | wrong
    with engine.connect() as connection, connection.begin(), pytest.raises(InputError, match=next(iter(wrong))):
        audit.append(connection, **fields)  # type: ignore[arg-type]  # wrong on purpose


def test_long_trail_is_read_in_pieces(engine: Engine) -> None:
    with engine.connect() as connection:
        with connection.begin():
            for number in range(600):
                head = audit.append(connection, "me", "hold.placed", f"part-{number}")
        assert verified(engine, note=head) == Verification(head)
        with connection.begin():
            assert [entry.number for entry in audit.newest(connection, 3)] == [600, 599, 598]


def test_command(
    engine: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANDON_DATABASE_URL", url)
    where = ("--home", str(tmp_path))

    def andon(*words: str) -> tuple[int, str]:
        code = main(words)
        return code, capsys.readouterr().out

    assert andon("audit", "verify", *where) == (0, "whole: 0 entries, the newest is -\n" + NOTHING_NOTED)
    with engine.connect() as connection:
        enter(connection, "first")
        enter(connection, "second")
    code, head = andon("audit", "head", *where)
    assert (code, Head.parse(head).number) == (0, 2)
    code, said = andon("audit", "verify", "--json", *where)
    assert (code, json.loads(said)) == (
        0,
        {"whole": True, "head": head.strip(), "first_wrong": None, "fault": None, "anchors": {}},
    )
    assert Anchor(tmp_path).read() == Head.parse(head)  # what was found whole is noted
    code, said = andon("audit", "show", "--limit", "1", *where)
    assert code == 0
    assert "second" in said
    assert "first" not in said
    shown = json.loads(andon("audit", "show", "--json", *where)[1])["entries"]
    assert [entry["subject"] for entry in shown] == ["second", "first"]

    tamper(engine, "DELETE FROM audit WHERE number = 2")
    code, said = andon("audit", "verify", *where)
    assert code == EXIT_FAILURE
    assert said.startswith(f"BROKEN at entry 2: entry 2 is missing at the end: {tmp_path / 'audit.json'} noted entry 2")
    with engine.connect() as connection:
        enter(connection, "backup-1.tar", action=RESTORED)
    (tmp_path / "audit.json").unlink()
    code, said = andon("audit", "verify", "--head", head, *where)
    assert code == EXIT_FAILURE
    assert "quality restored the backup backup-1.tar" in said
    assert andon("audit", "verify", "--head", "12", *where)[0] == EXIT_USAGE


NOTHING_NOTED = "nothing was noted outside the database: that entries are missing at the end would not be seen\n"


def test_command_names_a_server_that_does_not_answer(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = sqlalchemy.make_url(url).set(database="nowhere").render_as_string(hide_password=False)
    monkeypatch.setenv("ANDON_DATABASE_URL", wrong)
    assert main(["audit", "verify", "--home", str(tmp_path)]) != 0
    assert "nowhere" in capsys.readouterr().err
