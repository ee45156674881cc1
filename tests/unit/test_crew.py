from ingest.crew import Crew


def crew_of(*workers):
    crew = Crew()
    for name, capacity in workers:
        crew.credit(name, capacity, shares_memory=True)
    return crew


def test_frames_go_to_the_least_busy_worker_in_order():
    crew = crew_of((b"a", 2), (b"b", 2))
    for name in "1234":
        crew.wait(name)
    assert [crew.assign(0) for _ in range(4)] == [(b"a", "1"), (b"b", "2"), (b"a", "3"), (b"b", "4")]
    crew.wait("5")
    assert crew.assign(0) is None, "nobody has credit left"
    crew.answered(b"b", "2", 0)
    assert crew.assign(0) == (b"b", "5")


def test_frames_of_a_dead_worker_are_free_again_unless_another_has_them():
    crew = crew_of((b"a", 3))
    for name in "12":
        crew.wait(name)
        crew.assign(0)
    crew.credit(b"b", 3, shares_memory=True)
    crew.wait("1")  # sent a second time, after a restart of the decision stage
    assert crew.assign(0) == (b"b", "1")
    assert crew.lose(b"a") == {"2"}
    assert list(crew.workers) == [b"b"]


def test_the_most_urgent_frame_goes_first():
    crew = Crew()
    crew.wait("new")
    crew.wait("again", first=True)
    crew.credit(b"a", 1, shares_memory=True)
    assert crew.assign(0) == (b"a", "again")


def test_a_dropped_frame_is_not_sent():
    crew = crew_of((b"a", 1))
    crew.wait("1")
    assert crew.drop("1")
    assert not crew.drop("1")
    assert crew.assign(0) is None
    assert len(crew) == 0


def test_an_answer_of_a_worker_that_is_gone_changes_nothing():
    crew = crew_of((b"a", 1))
    crew.answered(b"gone", "1", 0)
    assert crew.workers[b"a"].frames == set()


MS = 1_000_000


def test_a_silent_worker_is_doubted_and_others_get_its_frames_until_it_speaks_again():
    crew = crew_of((b"a", 2), (b"b", 2))
    for name in "12":
        crew.wait(name)
        crew.assign(0)
    crew.answered(b"b", "2", 10 * MS)
    assert crew.doubt(150 * MS) == set()
    assert crew.doubt(151 * MS) == {"1"}
    crew.wait("1", first=True)
    assert crew.doubt(152 * MS) == set(), "it waits already"
    assert crew.assign(152 * MS) == (b"b", "1")
    assert crew.doubt(153 * MS) == set(), "a trusted worker has it"
    crew.wait("3")
    assert crew.assign(153 * MS) == (b"b", "3"), "nothing more for the silent one while there is another"
    crew.answered(b"a", "1", 160 * MS)
    crew.wait("4")
    assert crew.assign(161 * MS) == (b"a", "4")


def test_the_only_worker_keeps_its_frames_however_silent_it_is():
    crew = crew_of((b"a", 2))
    for name in "12":
        crew.wait(name)
        crew.assign(0)
        assert crew.doubt(1000 * MS) == set()
    assert crew.workers[b"a"].frames == {"1", "2"}


def test_workers_that_always_take_long_are_not_doubted_for_it():
    crew = crew_of((b"a", 1), (b"b", 1))
    now_ns = 0
    for number in range(20):
        crew.wait(str(number))
        assert crew.assign(now_ns) == (b"a", str(number))
        now_ns += 400 * MS
        doubtful = crew.doubt(now_ns)
        assert (doubtful == set()) is (number > 0), "only the first is a surprise"
        crew.answered(b"a", str(number), now_ns)


def test_an_idle_worker_is_never_doubted():
    crew = crew_of((b"a", 1), (b"b", 1))
    crew.wait("1")
    crew.assign(10_000 * MS)
    assert crew.doubt(10_100 * MS) == set()
    assert not any(worker.doubted for worker in crew.workers.values())
