from hypothesis import given
from hypothesis import strategies as st

from config.schedule import Schedule
from config.station import SimulationSection

SCHEDULES = st.builds(
    lambda rate, products, every, pause, parts: Schedule(
        SimulationSection(
            rate_per_s=rate,
            products=tuple(f"p{number}" for number in range(products)),
            changeover_every_parts=every,
            changeover_pause_s=pause,
        ),
        start_ns=1_000_000,
        parts=parts,
    ),
    st.floats(0.5, 500),
    st.integers(1, 3),
    st.integers(0, 20),
    st.floats(0, 3),
    st.none() | st.integers(1, 500),
)


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


def test_before_the_start_there_is_no_part():
    schedule = Schedule(SimulationSection(products=("a",)), start_ns=100, parts=3)
    assert schedule.latest(99) == -1
    assert schedule.latest(100) == 0
    assert schedule.latest(10**12) == 2
