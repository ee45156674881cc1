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
    assert [crew.assign() for _ in range(4)] == [(b"a", "1"), (b"b", "2"), (b"a", "3"), (b"b", "4")]
    crew.wait("5")
    assert crew.assign() is None, "nobody has credit left"
    crew.answered(b"b", "2")
    assert crew.assign() == (b"b", "5")


def test_frames_of_a_dead_worker_are_free_again_unless_another_has_them():
    crew = crew_of((b"a", 3))
    for name in "12":
        crew.wait(name)
        crew.assign()
    crew.credit(b"b", 3, shares_memory=True)
    crew.wait("1")  # sent a second time, after a restart of the decision stage
    assert crew.assign() == (b"b", "1")
    assert crew.lose(b"a") == {"2"}
    assert list(crew.workers) == [b"b"]


def test_the_most_urgent_frame_goes_first():
    crew = Crew()
    crew.wait("new")
    crew.wait("again", first=True)
    crew.credit(b"a", 1, shares_memory=True)
    assert crew.assign() == (b"a", "again")


def test_a_dropped_frame_is_not_sent():
    crew = crew_of((b"a", 1))
    crew.wait("1")
    assert crew.drop("1")
    assert not crew.drop("1")
    assert crew.assign() is None
    assert len(crew) == 0


def test_an_answer_of_a_worker_that_is_gone_changes_nothing():
    crew = crew_of((b"a", 1))
    crew.answered(b"gone", "1")
    assert crew.workers[b"a"].frames == set()
