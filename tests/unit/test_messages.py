import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import MessageError
from config.messages import Answered, Credit, Job, Reason, Trigger, Truth, decode, encode

TRIGGER = Trigger(
    part_id="demo-1-00000001",
    sequence=1,
    station="demo",
    camera="front",
    views=("front",),
    recipe="bracket",
    trigger_ns=1,
    trigger_time_ns=2,
    deadline_ns=3,
    truth=Truth(good=False, defect="scratch"),
)


def test_what_was_sent_is_what_arrives_with_its_payload():
    message, payload = decode([bytes(part) for part in encode(TRIGGER, [b"pixels", b""])])
    assert message == TRIGGER
    assert payload == [b"pixels", b""]


def test_headers_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        TRIGGER.sequence = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "0 part"),
        ([b"trigger/1"], "1 part"),
        ([b"trigger/9", b"{}"], "unknown message kind"),
        ([b"job/1", b"{}"], "epoch: Field required"),
        ([b"job/1", b'{"epoch": 1, "recipe": "x", "deadline_ms": 1, "extra": 2}'], "extra: Extra inputs"),
        ([b"job/1", b"not json"], "Invalid JSON"),
        ([b"credit/1", b'{"worker": "w", "capacity": -1, "shares_memory": true}'], "capacity"),
    ],
)
def test_what_is_no_message_is_refused_and_named(parts, says):
    with pytest.raises(MessageError, match=says):
        decode(parts)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_are_refused_and_never_crash(parts):
    with pytest.raises(MessageError):
        decode(parts)


@given(
    st.sampled_from([b"trigger/1", b"verdict/1", b"frame/1"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    ),
)
def test_random_json_is_refused_and_never_crashes(kind, value):
    with pytest.raises(MessageError):
        decode([kind, json.dumps(value).encode()])


def test_every_kind_survives_its_own_round_trip():
    for message in (
        Credit(worker="w", capacity=3, shares_memory=False),
        Answered(frame_ids=("a", "b")),
        Job(epoch=1, recipe="r", deadline_ms=5),
    ):
        assert decode([bytes(part) for part in encode(message)])[0] == message


def test_reasons_are_their_own_names():
    assert all(reason.value == reason.name for reason in Reason)
