"""The filter on a command line: no field without an option, and every option means its field."""

from __future__ import annotations

import argparse
import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.errors import InputError
from config.messages import Judgement, Reason
from deploy import choosing
from deploy.exporting.formats.csv import text
from deploy.exporting.source import file_name
from deploy.table import Screen, share
from storage.query.filters import Filter, ReviewState

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GIVEN = {
    "since": ("2026-11-20T10:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
    "until": ("2h", NOW - timedelta(hours=2)),
    "recipe_version": ("3", 3),
    "bundle": ("0123abcd", "0123abcd"),
    "verdicts": ("reject", frozenset({Judgement.REJECT})),
    "reason": ("late", Reason.LATE),
    "score_min": ("-1.5", -1.5),
    "score_max": ("2", 2.0),
    "area_min_px": ("10", 10),
    "area_max_px": ("20", 20),
    "x_min": ("0.1", 0.1),
    "x_max": ("0.2", 0.2),
    "y_min": ("0", 0.0),
    "y_max": ("1", 1.0),
    "challenge": (None, True),
    "gate_confirmed": (None, True),
    "review": ("Disputed", ReviewState.DISPUTED),
}


def read(*words: str) -> Filter:
    parser = argparse.ArgumentParser()
    choosing.add(parser)
    return choosing.read(parser.parse_args(words), NOW)


@pytest.mark.parametrize("name", Filter.model_fields)
def test_every_field_has_an_option(name: str) -> None:
    word, meant = GIVEN.get(name, ("some name", "some name"))
    flag = "--" + name.replace("_", "-")
    if name == "verdicts":
        flag = "--verdict"
    assert read(*([flag] if word is None else [f"{flag}={word}"])) == Filter(**{name: meant})


def test_sets_may_be_given_again_and_false_is_said_so() -> None:
    chosen = read("--verdict", "PASS", "--verdict", "FAULT", "--no-challenge")
    assert chosen.verdicts == {Judgement.PASS, Judgement.FAULT}
    assert chosen.challenge is False
    assert read() == Filter()


@pytest.mark.parametrize(
    ("word", "back"),
    [
        ("90s", timedelta(seconds=90)),
        ("30min", timedelta(minutes=30)),
        ("1.5h", timedelta(hours=1.5)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_spans_count_back_from_now(word: str, back: timedelta) -> None:
    assert read("--since", word).since == NOW - back


def test_a_time_without_a_zone_is_local() -> None:
    assert read("--since", "2026-11-20T10:00").since == datetime(2026, 11, 20, 10).astimezone()
    assert read("--since", "2026-11-20").since == datetime(2026, 11, 20).astimezone()


@given(st.text(max_size=30), st.sampled_from([name for name in Filter.model_fields if GIVEN.get(name, "x")[0]]))
def test_any_word_is_taken_or_an_input_error(word: str, name: str) -> None:
    try:
        read(f"--{name.removesuffix('s').replace('_', '-')}={word}")
    except InputError as error:
        said = str(error)
    else:
        said = name
    assert name in said


def test_tables_command_no_terminal_and_colour_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    rows = [("PASS", "1.5"), ("REJECT", "22.25"), ("\x1b[2J", "-")]
    assert list(Screen(io.StringIO()).table(("VERDICT", "SCORE"), rows)) == [
        "VERDICT  SCORE",
        "PASS       1.5",
        "REJECT   22.25",
        "?[2J         -",
    ]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = list(Screen(Terminal()).table(("VERDICT", "SCORE"), rows))
    assert "\x1b[31mREJECT\x1b[0m" in coloured[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(Screen(Terminal()).table(("VERDICT", "SCORE"), rows))
    assert (share(0.0), share(0.1234), share(0.00012)) == ("0.00%", "12.34%", "0.00012")


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
@example("균" * 64, "균" * 63)  # as long as a defect class may be: 576 bytes, quoted
@example("a" * 108, "a" * 109)
def test_names_of_files_stay_in_their_folder_and_apart(one: str, other: str) -> None:
    name = file_name(one)
    assert "/" not in name
    assert "\x00" not in name
    assert name not in {".", ".."}
    assert len(name) <= 108  # two of them, and what is between and behind, in 255 bytes
    assert (name == file_name(other)) == (one == other)


@given(st.text(max_size=20))
def test_no_cell_is_a_formula_and_each_can_be_read_back(cell: str) -> None:
    written = text(cell)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert written.removeprefix("'") == cell or (written == cell and not cell.startswith("'"))


def test_cells_that_are_no_text() -> None:
    assert [text(cell) for cell in (None, True, -1.5, 3)] == ["", "true", "-1.5", "3"]
    assert text(datetime(2026, 11, 20, 10, tzinfo=UTC)) == "2026-11-20T10:00:00+00:00"
