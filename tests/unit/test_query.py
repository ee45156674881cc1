from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import InputError, StoreError
from config.messages import Judgement, Reason
from storage.filters import Filter
from storage.query import LARGEST_PAGE, QueryService

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
    ],
)
def test_wrong_filter_names_the_field(values: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        Filter.parse(values)


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
    ):
        with pytest.raises(InputError):
            ask()


def test_absent_server_is_a_store_error(query: QueryService) -> None:
    with pytest.raises(StoreError, match="PostgreSQL"):
        query.counts(Filter())
