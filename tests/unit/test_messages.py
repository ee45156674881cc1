import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from config.errors import MessageError
from config.messages import Answered, Credit, Job, Prediction, Predictions, Reason, Trigger, Truth, decode, encode

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
    with pytest.raises(AttributeError, match="immutable"):
        TRIGGER.sequence = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "0 part"),
        ([b"trigger/1"], "1 part"),
        ([b"trigger/9", b"{}"], "unknown message kind"),
        ([b"job/2", b"{}"], "job/2: Object missing required field `epoch`"),
        ([b"job/2", b'{"epoch": 1, "recipe": "x", "deadline_ms": 1, "extra": 2}'], "unknown field `extra`"),
        ([b"job/2", b"not json"], "malformed"),
        ([b"credit/2", b'{"worker": "w", "capacity": -1, "shares_memory": true}'], "capacity"),
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


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_score_that_is_no_number_arrives_as_none(score):
    prediction = Prediction(
        frame_id="f",
        part_id="p",
        camera="front",
        score=score,
        map_shape=(1, 1),
        frame_shape=(8, 8, 3),
        bundle_digest="sha256:1",
        worker="w",
        batch_size=1,
        received_ns=1,
        started_ns=2,
        finished_ns=3,
    )
    told, _ = decode([bytes(part) for part in encode(Predictions(each=(prediction,)))])
    assert told == Predictions(each=(replace(prediction, score=None),))


@pytest.mark.parametrize("wrong", ["3", 1.5, True, 2**63])
def test_numbers_are_whole_and_fit_the_database(wrong):
    said = json.loads(encode(TRIGGER)[1])
    with pytest.raises(MessageError, match="sequence"):
        decode([b"trigger/1", json.dumps(said | {"sequence": wrong}).encode()])


def test_reasons_are_their_own_names():
    assert all(reason.value == reason.name for reason in Reason)
