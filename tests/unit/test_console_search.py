"""The search of the defects page: what its URL means, and that it says what it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from config.errors import InputError
from config.messages import Judgement, Reason
from storage.console.search import NOT_PASSED, Search, When

SEOUL = timezone(timedelta(hours=9))
NOW = datetime(2026, 3, 4, 15, 16, 17, tzinfo=SEOUL)


def test_nothing_asked_is_what_did_not_pass_today() -> None:
    found = Search().filter(NOW)
    assert found.since == datetime(2026, 3, 4, tzinfo=SEOUL)
    assert found.until is None
    assert found.verdicts == frozenset(NOT_PASSED)
    assert Search().query() == ""


@pytest.mark.parametrize(
    ("when", "since"),
    [
        (When.HOUR, NOW - timedelta(hours=1)),
        (When.SHIFT, datetime(2026, 3, 4, 14, tzinfo=SEOUL)),
        (When.TODAY, datetime(2026, 3, 4, tzinfo=SEOUL)),
        (When.ALL, None),
    ],
)
def test_presets(when: When, since: datetime | None) -> None:
    assert Search(when=when).filter(NOW).since == since


def test_times_of_the_form_are_the_stations_and_others_keep_their_zone() -> None:
    search = Search.model_validate(
        {"when": "custom", "since": "2026-03-01T08:00", "until": "2026-03-01T00:30:00+00:00"}
    )
    found = search.filter(NOW)
    assert found.since == datetime(2026, 3, 1, 8, tzinfo=SEOUL)
    assert found.until == datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


def test_empty_fields_are_no_fields() -> None:
    blank = {"since": "", "until": "", "product": "", "reason": "", "part_id": " ", "score_min": "", "score_max": ""}
    assert Search.model_validate(blank) == Search()


def test_named_part_is_found_whatever_else_is_chosen() -> None:
    found = Search(part_id="st-r1-00000001", when=When.HOUR).filter(NOW)
    assert (found.part_id, found.since, found.verdicts) == ("st-r1-00000001", None, frozenset())


def test_url_says_the_same_search() -> None:
    search = Search(
        when=When.ALL,
        verdict=(Judgement.PASS, Judgement.FAULT),
        product="cap & co",
        reason=Reason.LATE,
        score_min=0.0,
        score_max=2.5,
    )
    said = parse_qs(search.query())
    single = {name: values if name == "verdict" else values[0] for name, values in said.items()}
    assert Search.model_validate(single) == search
    assert parse_qs(search.query(after="c"))["after"] == ["c"]


@pytest.mark.parametrize(
    "wrong",
    [{"when": "never"}, {"score_min": "nan"}, {"verdict": ["GOOD"]}, {"reason": "BAD"}, {"until": "x"}, {"y": "1"}],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Search.model_validate(wrong)


def test_empty_ranges_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="score_min"):
        Search(score_min=3, score_max=1).filter(NOW)
    with pytest.raises(InputError, match="since"):
        Search.model_validate({"when": "custom", "since": "2026-03-02T00:00", "until": "2026-03-01T00:00"}).filter(NOW)
