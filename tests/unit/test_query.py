from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import InputError, StoreError
from config.messages import Judgement, Reason
from storage.query.answers import Counts, Page
from storage.query.filters import Filter
from storage.query.scope import possible_runs
from storage.query.service import LARGEST_PAGE, QueryService

NOWHERE = "postgresql+psycopg://andon@/andon?host=/nowhere"


def cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.fixture
def query() -> QueryService:
    return QueryService(NOWHERE)


def test_filter_reads_what_a_query_string_gives() -> None:
    chosen = Filter.parse(
        {"since": "2026-11-22T10:00:00Z", "verdicts": ["REJECT", "FAULT"], "reason": "LATE", "score_min": "1.5"}
    )
    assert chosen.since == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert chosen.verdicts == {Judgement.REJECT, Judgement.FAULT}
    assert chosen.reason is Reason.LATE
    assert chosen.score_min == 1.5


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"since": "2026-11-22T10:00:00"}, "since"),
        ({"since": "2026-11-22T10:00:00Z", "until": "2026-11-22T10:00:00Z"}, "since"),
        ({"verdicts": ["PASSED"]}, "verdicts"),
        ({"reason": "BAD_LUCK"}, "reason"),
        ({"score_min": "nan"}, "score_min"),
        ({"score_min": 2, "score_max": 1}, "score_min"),
        ({"product": ""}, "product"),
        ({"product": "a\x00b"}, "product"),
        ({"part_id": "x" * 1000}, "part_id"),
        ({"colour": "red"}, "colour"),
        ({"line": "a\nb"}, "line"),
        ({"recipe_version": "two"}, "recipe_version"),
        ({"recipe_version": 2**31}, "recipe_version"),
        ({"bundle": "sha256:abcdef0"}, "bundle"),
        ({"bundle": "bracket"}, "bundle"),
        ({"area_min_px": -1}, "area_min_px"),
        ({"area_max_px": 10**10}, "area_max_px"),
        ({"area_min_px": 5, "area_max_px": 4}, "area_min_px"),
        ({"x_min": 1.1}, "x_min"),
        ({"y_min": 0.9, "y_max": 0.1}, "y_min"),
        ({"challenge": "perhaps"}, "challenge"),
        ({"gate_confirmed": 2}, "gate_confirmed"),
        ({"review": "nice"}, "review"),
    ],
)
def test_wrong_filter_names_the_field(values: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        Filter.parse(values)


@pytest.mark.parametrize("digits", ["abcdef01", "sha256:ABCDEF01", " abcdef01 ", "sha256:" + "0" * 64])
def test_bundle_is_named_by_its_digest_or_how_it_begins(digits: str) -> None:
    assert Filter(bundle=digits).bundle == digits.strip().lower().removeprefix("sha256:")


def test_tallies_can_tell_what_they_count_by() -> None:
    assert Filter().by_tally
    assert Filter(product="cap", line="1", recipe_version=2, verdicts=frozenset({Judgement.FAULT})).by_tally
    assert not Filter(reason=Reason.LATE).by_tally
    assert not Filter(challenge=False).by_tally


@pytest.mark.parametrize(
    ("part_id", "runs"),
    [("st-r1-00000001", ["r1"]), ("a-b-c-1", ["b-c", "c"]), ("st-1", []), ("", []), ("no", [])],
)
def test_a_parts_run_can_be_any_piece_of_its_id(part_id: str, runs: list[str]) -> None:
    assert possible_runs(part_id) == runs


def test_page_that_ends_its_search_tells_how_many_there_are() -> None:
    assert Counts.of(Page(parts=(), after=None)) == Counts(total=0, verdicts=dict.fromkeys(Judgement, 0))
    stopped = Page(parts=(), after="x", searched_to=datetime(2026, 11, 22, tzinfo=UTC))
    assert Counts.of(stopped) == Counts(total=0, verdicts=dict.fromkeys(Judgement, 0), at_least=True)
    assert Counts.of(Page(parts=(), after="x")) is None


@given(
    st.dictionaries(
        st.sampled_from([*Filter.model_fields, "other"]),
        st.none() | st.text() | st.floats() | st.integers() | st.lists(st.text(), max_size=2) | st.datetimes(),
        max_size=4,
    )
)
def test_any_filter_is_one_or_an_input_error(values: dict[str, object]) -> None:
    try:
        Filter.parse(values)
    except InputError as error:
        assert str(error).startswith("filter: ")  # noqa: PT017 - either is right


@pytest.mark.parametrize("limit", [0, -1, LARGEST_PAGE + 1])
def test_page_has_a_size(query: QueryService, limit: int) -> None:
    with pytest.raises(InputError, match=f"limit: must be 1 to {LARGEST_PAGE}"):
        query.parts(Filter(), limit=limit)


@pytest.mark.parametrize(
    "after",
    [
        "",
        "!",
        "ünicode",
        cursor([]),
        cursor({}),
        cursor(7),
        cursor(["2026-01-01T00:00:00+00:00"]),
        cursor(["today", "part"]),
        cursor(["2026-01-01T00:00:00+00:00", 7]),
        cursor(["2026-01-01T00:00:00+00:00", "a\x00"]),
        cursor(["0001-01-01T00:00:00+14:00", "part"]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_made_up_cursor_is_an_input_error(query: QueryService, after: str) -> None:
    with pytest.raises(InputError, match="after"):
        query.parts(Filter(), after=after)


@given(st.text())
def test_any_cursor_is_one_or_an_input_error(after: str) -> None:
    with pytest.raises(InputError, match="after"):
        QueryService(NOWHERE).parts(Filter(), after=after)


def test_wrong_names_are_input_errors(query: QueryService) -> None:
    for ask in (
        lambda: query.part(""),
        lambda: query.part("a\x00"),
        lambda: query.image("p", "", "image"),
        lambda: query.image("p", "top", "live"),
        lambda: query.image("p", "top", "crop", 2**15),
        lambda: query.image("p", "top", "crop", -2),
        lambda: query.map("p", "\n"),
        lambda: query.summary(""),
        lambda: query.progress("", "st"),
        lambda: next(query.stream(Filter.parse({"product": ""}))),
    ):
        with pytest.raises(InputError):
            ask()


def test_absent_server_is_a_store_error(query: QueryService) -> None:
    with pytest.raises(StoreError, match="PostgreSQL"):
        query.counts(Filter())
