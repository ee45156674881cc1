from hypothesis import given
from hypothesis import strategies as st

from config.schedule import NEVER_NS, Hold, Profile, Schedule, profile
from config.station import SimulationSection

HOLDS = st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 10**10)), max_size=4).map(
    lambda gaps: tuple(
        Hold(sum(map(sum, gaps[:number])) + gap, sum(map(sum, gaps[: number + 1])))
        for number, (gap, _) in enumerate(gaps)
    )
)
SCHEDULES = st.builds(
    lambda rate, products, every, pause, parts, slowest, stop, seed, holds: Schedule(
        SimulationSection(
            rate_per_s=rate,
            products=tuple(f"p{number}" for number in range(products)),
            changeover_every_parts=every,
            changeover_pause_s=pause,
            slowest_speed=slowest,
            speed_change_s=0.3,
            longest_stop_s=stop,
            seed=seed,
        ),
        start_ns=1_000_000,
        parts=parts,
        holds=holds,
    ),
    st.floats(0.5, 500),
    st.integers(1, 3),
    st.integers(0, 20),
    st.floats(0, 3),
    st.none() | st.integers(1, 500),
    st.just(1.0) | st.floats(0.05, 1),
    st.just(0.0) | st.floats(0, 3),
    st.integers(0, 3),
    HOLDS,
)
PROFILES = st.builds(profile, st.integers(), st.floats(0.05, 1), st.floats(1e-6, 5), st.floats(0, 5))


@given(SCHEDULES, st.integers(0, 400))
def test_the_part_in_front_of_the_cameras_is_the_last_one_triggered(schedule, sequence):
    last = sequence if schedule.parts is None else min(sequence, schedule.parts - 1)
    assert schedule.latest(schedule.time_ns(sequence)) == last
    assert schedule.latest(schedule.time_ns(sequence) - 1) == min(last, sequence - 1)


@given(SCHEDULES, st.integers(0, 400))
def test_parts_never_overtake_and_products_change_only_after_a_full_run(schedule, sequence):
    assert schedule.time_ns(sequence + 1) - schedule.time_ns(sequence) >= schedule.period_ns
    if schedule.product(sequence) != schedule.product(sequence + 1):
        every = schedule.simulation.changeover_every_parts
        assert (sequence + 1) % every == 0


@given(SCHEDULES, st.integers(0, 400))
def test_the_gate_comes_one_travel_after_the_cameras_or_later(schedule, sequence):
    seen_ns, gate_ns = schedule.time_ns(sequence), schedule.gate_ns(sequence)
    assert gate_ns - seen_ns >= schedule.gate_travel_ns
    if schedule.simulation.slowest_speed == 1 and schedule.simulation.longest_stop_s == 0:
        held_ns = sum(hold.end_ns - hold.begin_ns for hold in schedule.holds if seen_ns < hold.begin_ns <= gate_ns)
        assert gate_ns - seen_ns == schedule.gate_travel_ns + held_ns


@given(PROFILES, st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_place_is_reached_by_a_time_exactly_if_its_own_time_is_not_later(moves: Profile, place_ns, time_ns):
    assert (moves.place_ns(time_ns) >= place_ns) == (moves.time_ns(place_ns) <= time_ns)
    reached_ns = moves.time_ns(place_ns)
    assert moves.place_ns(reached_ns) >= place_ns
    assert reached_ns == 0 or moves.place_ns(reached_ns - 1) < place_ns


@given(PROFILES, st.integers(0, 10**12), st.integers(0, 10**11))
def test_no_way_takes_less_than_at_full_speed(moves: Profile, place_ns, further_ns):
    assert moves.time_ns(place_ns + further_ns) - moves.time_ns(place_ns) >= further_ns
    assert moves.place_ns(place_ns + further_ns) - moves.place_ns(place_ns) <= further_ns + 1


@given(SCHEDULES, st.integers(0, 400), st.integers(0, 10**10))
def test_while_the_belt_is_held_no_part_comes_and_those_before_are_where_they_were(schedule, sequence, after_ns):
    free = schedule.holds[-1].end_ns if schedule.holds else 0
    begin_ns = max(free, schedule.start_ns) + after_ns
    held = Schedule(schedule.simulation, schedule.start_ns, schedule.parts, (*schedule.holds, Hold(begin_ns)))
    if schedule.time_ns(sequence) < begin_ns:
        assert held.time_ns(sequence) == schedule.time_ns(sequence)
    else:
        assert held.time_ns(sequence) >= NEVER_NS
    assert held.latest(begin_ns) == held.latest(begin_ns + 10**15) == schedule.latest(begin_ns - 1)


def test_before_the_start_there_is_no_part():
    schedule = Schedule(SimulationSection(products=("a",)), start_ns=100, parts=3)
    assert schedule.latest(99) == -1
    assert schedule.latest(100) == 0
    assert schedule.latest(10**12) == 2
