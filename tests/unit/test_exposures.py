"""Pictures of parts that the PLC has triggered, also over a restart of the decision stage."""

from __future__ import annotations

from decision.exposures import Exposures

MS = 1_000_000


def test_a_part_has_all_its_pictures_when_its_last_camera_has_spoken() -> None:
    exposures = Exposures()
    exposures.begin("p1", 7, ["left", "right"], again=False)
    assert exposures.settle("p1", "left") is None
    assert exposures.settle("p1", "left") is None
    assert exposures.settle("p1", "right") == 7
    assert exposures.settle("p1", "right") is None
    assert exposures.settle("another", "left") is None


def test_a_picture_that_a_former_process_asked_for_is_given_up_when_its_camera_has_told_all_it_has() -> None:
    exposures = Exposures()
    exposures.begin("asked for now", 9, ["left"], again=False)
    exposures.begin("taken", 6, ["left"], again=True)
    exposures.begin("p1", 7, ["left", "right"], again=True)
    exposures.begin("p2", 8, ["right"], again=True)
    exposures.meet("left", 1000 * MS)
    exposures.meet("left", 1200 * MS)
    assert exposures.settle("taken", "left") == 6
    assert exposures.never(1299 * MS) == []
    assert exposures.never(1300 * MS) == [("p1", "left")]
    assert exposures.settle("p1", "left") is None
    assert exposures.never(9000 * MS) == [], "the other camera is away: the deadline decides"
    exposures.forget("p2")
    exposures.meet("right", 9000 * MS)
    assert exposures.never(9300 * MS) == [("p1", "right")]
    assert exposures.settle("p1", "right") == 7
