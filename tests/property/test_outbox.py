"""What was appended and not confirmed is found again by the next process; what is overwritten was confirmed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import StoreError
from decision.outbox import Outbox, OutboxFullError

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.binary(max_size=150), min_size=1, max_size=3)),
        st.tuples(st.just("confirm"), st.integers(0, 200)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(actions=ACTIONS)
def test_nothing_unconfirmed_is_ever_lost(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("outbox") / "outbox"
    outbox = Outbox(path, size_bytes=1024)
    appended: dict[str, list[bytes]] = {}
    waiting: list[str] = []
    for number, (action, value) in enumerate(actions):
        if action == "append":
            record_id = f"verdict:{number}"
            try:
                outbox.append(record_id, value)
            except OutboxFullError:
                continue
            appended[record_id] = value
            waiting.append(record_id)
        elif action == "confirm" and waiting:
            done = waiting.pop(value % len(waiting))
            outbox.confirm(done)
        else:
            outbox = Outbox(path, size_bytes=1024)
            found = list(outbox.recover())
            assert all(appended[record_id] == parts for record_id, parts, _ in found)
            left = [record_id for record_id, _, still in found if still]
            assert set(waiting) <= set(left)
            waiting = left
    found = list(Outbox(path, size_bytes=1024).recover())
    assert set(waiting) <= {record_id for record_id, _, still in found if still}


def test_a_full_outbox_says_so_and_takes_more_after_a_confirmation(tmp_path):
    outbox = Outbox(tmp_path / "outbox", size_bytes=1000)
    outbox.append("a", [b"x" * 400])
    outbox.append("b", [b"x" * 400])
    assert outbox.fill > 0.8
    with pytest.raises(OutboxFullError, match="wait for storage"):
        outbox.append("c", [b"x" * 400])
    outbox.confirm("a")
    outbox.append("c", [b"x" * 300])


def test_confirmed_records_stay_to_tell_what_was_judged(tmp_path):
    outbox = Outbox(tmp_path / "outbox", size_bytes=1000)
    outbox.append("a", [b"1"])
    outbox.confirm("a")
    assert list(Outbox(tmp_path / "outbox", size_bytes=1000).recover()) == [("a", [b"1"], False)]


def test_a_damaged_outbox_is_refused(tmp_path):
    path = tmp_path / "outbox"
    outbox = Outbox(path, size_bytes=1000)
    outbox.append("a", [b"x" * 100])
    content = bytearray(path.read_bytes())
    content[64 + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        list(Outbox(path, size_bytes=1000).recover())
    path.write_bytes(b"\xff" * len(content))
    with pytest.raises(StoreError, match="not an outbox"):
        Outbox(path, size_bytes=1000)
