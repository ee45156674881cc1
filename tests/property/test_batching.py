"""Batches of whatever waits: nothing is lost twice or for nothing, and nobody starves."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.batching import Batcher, Costs

MS = 1_000_000
BUCKETS = (1, 2, 4, 8, 16)


@st.composite
def costs(draw: st.DrawFn) -> dict[int, int]:
    """What batches take: anything, though a larger one never less than a smaller one."""
    steps = [draw(st.integers(1, 30)) for _ in BUCKETS]
    return {bucket: sum(steps[: index + 1]) * MS for index, bucket in enumerate(BUCKETS)}


COSTS = costs()
CAMERAS = st.sampled_from("abcd")
FRAMES = st.lists(st.tuples(st.sampled_from("xyz"), CAMERAS, st.integers(-5, 400)), max_size=60)


@given(frames=FRAMES, measured=st.fixed_dictionaries(dict.fromkeys("xyz", COSTS)))
def test_every_frame_comes_out_once_and_in_time_by_what_was_measured(frames, measured) -> None:
    batcher: Batcher[int] = Batcher()
    known = {key: Costs(one) for key, one in measured.items()}
    for number, (key, camera, deadline_ms) in enumerate(frames):
        batcher.put(key, known[key], camera, deadline_ms * MS, 0, number)
    now_ns, out = 0, Counter[int]()
    while len(batcher):
        batch, lost = batcher.take(now_ns)
        out.update(lost)
        if batch is None:
            assert not len(batcher)
            break
        out.update(batch.items)
        assert batch.items
        assert len(batch.items) <= batch.bucket
        assert {frames[number][0] for number in batch.items} == {batch.key}
        end_ns = now_ns + measured[batch.key][batch.bucket]
        late = [number for number in batch.items if frames[number][2] * MS < end_ns]
        # what is late by what was measured is run where there is nothing else alone, so that measuring goes on
        assert not late or (len(batch.items) == 1 and frames[late[0]][2] * MS > now_ns and not len(batcher))
        now_ns = end_ns
    assert out == Counter(range(len(frames)))


@given(
    deadlines_ms=st.lists(st.tuples(CAMERAS, st.integers(1, 600)), min_size=1, max_size=60),
    measured=COSTS,
)
def test_what_batches_of_some_size_keep_is_kept(deadlines_ms, measured) -> None:
    batcher: Batcher[int] = Batcher()
    waiting = sorted(deadlines_ms, key=lambda one: one[1])
    for number, (camera, deadline_ms) in enumerate(waiting):
        batcher.put("x", Costs(measured), camera, deadline_ms * MS, 0, number)
    keeps_all = any(
        all(ms * MS >= (place // bucket + 1) * measured[bucket] for place, (_, ms) in enumerate(waiting))
        for bucket in BUCKETS
    )
    now_ns, given_up = 0, 0
    while len(batcher):
        batch, lost = batcher.take(now_ns)
        given_up += len(lost)
        if batch is not None:
            now_ns += measured[batch.bucket]
    if keeps_all:
        assert given_up == 0


@given(count=st.integers(1, 40), measured=COSTS)
def test_with_time_enough_the_size_with_the_least_time_for_a_frame_is_run(count, measured) -> None:
    batcher: Batcher[int] = Batcher()
    for number in range(count):
        batcher.put("x", Costs(measured), "a", 10**15, 0, number)
    batch, lost = batcher.take(0)
    assert batch is not None
    assert not lost
    for bucket in BUCKETS:
        assert measured[batch.bucket] / len(batch.items) <= measured[bucket] / min(bucket, count)


@settings(deadline=None)
@given(
    cameras=st.lists(
        st.tuples(st.integers(1, 30), st.integers(2, 40), st.integers(30, 400), st.integers(1, 8)),
        min_size=2,
        max_size=6,
    ),
    seed=st.integers(0, 2**32),
)
def test_no_camera_starves_whatever_the_others_send(cameras, seed) -> None:
    """Cameras of bundles of their own: each sends a frame of `cost_ms` every `period_ms`, due `patience_ms` later."""
    chance = random.Random(seed)
    known = {
        name: Costs({bucket: round(cost_ms * MS * (0.6 + 0.4 * bucket)) for bucket in BUCKETS})
        for name, (cost_ms, *_) in enumerate(cameras)
    }
    batcher: Batcher[int] = Batcher()
    due_ms = {name: chance.random() * period_ms for name, (_, period_ms, _, _) in enumerate(cameras)}
    now_ns, waiting = 0, Counter[int]()
    passed_over: dict[int, int] = {}  # since it lost a frame: how often it was, though it had another
    for _ in range(150):
        for name, (_, period_ms, patience_ms, credit) in enumerate(cameras):
            while due_ms[name] * MS <= now_ns:
                came_ns = round(due_ms[name] * MS)
                for _ in range(credit if waiting[name] < 16 else 0):
                    batcher.put(name, known[name], str(name), came_ns + patience_ms * MS, came_ns, name)
                    waiting[name] += 1
                due_ms[name] += period_ms
        batch, lost = batcher.take(now_ns)
        waiting.subtract(lost)
        for name in lost:
            passed_over.setdefault(name, 0)
        if batch is None:
            now_ns += MS
            continue
        waiting.subtract(batch.items)
        for name in [name for name in passed_over if waiting[name]]:
            passed_over[name] += 1
        for name in batch.items:
            passed_over.pop(name, None)
        assert max(passed_over.values(), default=0) <= len(cameras)
        now_ns += known[batch.key].of(batch.bucket)


@given(
    patience_ms=st.integers(50, 150),
    crowd=st.integers(8, 40),
    credit=st.integers(1, 16),
)
def test_an_impatient_camera_is_served_beside_one_whose_batches_are_long(patience_ms, crowd, credit) -> None:
    """Else it finds its frame hopeless whenever the worker becomes free, never has one that could go first."""
    batcher: Batcher[str] = Batcher()
    long = Costs({bucket: (20 + 10 * bucket) * MS for bucket in BUCKETS})
    short = Costs(dict.fromkeys(BUCKETS, 20 * MS))
    now_ns, due_ns, served, sent = 0, 7 * MS, 0, 0
    for _ in range(100):
        while len(batcher) < crowd:
            batcher.put("long", long, "crowd", now_ns + 10_000 * MS, now_ns, "crowd")
        while due_ns <= now_ns:
            for _ in range(credit):
                batcher.put("short", short, "impatient", due_ns + patience_ms * MS, due_ns, "impatient")
            due_ns += 2 * patience_ms * MS
            sent += 1
        batch, _ = batcher.take(now_ns)
        served += batch.key == "short"
        now_ns += (long if batch.key == "long" else short).of(batch.bucket)
    assert served >= sent // 2 - 1


@given(head_ms=st.integers(161, 170), other_ms=st.integers(1, 18))
def test_a_batch_is_no_longer_than_the_next_bundle_can_wait(head_ms, other_ms) -> None:
    batcher: Batcher[str] = Batcher()
    for _ in range(16):
        batcher.put("x", Costs({bucket: 10 * bucket * MS - bucket**2 for bucket in BUCKETS}), "a", 10**15, 0, "x")
    batcher.put("x", Costs(dict.fromkeys(BUCKETS, MS)), "a", head_ms * MS, 0, "x")
    batcher.put("y", Costs(dict.fromkeys(BUCKETS, 30 * MS)), "b", (head_ms + other_ms) * MS, 0, "y")
    now_ns, lost = 0, []
    while len(batcher):
        batch, given_up = batcher.take(now_ns)
        lost += given_up
        assert batch is not None
        now_ns += (30 if batch.key == "y" else 10 * batch.bucket) * MS
    assert not lost
