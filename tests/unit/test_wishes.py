"""What a camera keeps beyond its recipes, because the teacher wants it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from config.messages import GateCommand, Judgement, Verdict
from config.wishes import Wish, Wishes
from ingest.wanted import Wanted

NOW_NS = 10**12
LOOK_NS = 600_000_000


def wish(**changes: object) -> Wish:
    said = {
        "name": "a",
        "camera": "front",
        "recipe": "cap",
        "verdicts": {"PASS"},
        "most": 3,
        "until_ns": NOW_NS + 20 * 10**9,
    }
    return Wish.model_validate(said | changes)


def verdict(sequence: int, judgement: Judgement = Judgement.PASS, recipe: str = "cap") -> Verdict:
    return Verdict(
        part_id=f"s-{sequence}",
        sequence=sequence,
        station="s",
        line="1",
        recipe=recipe,
        recipe_version=1,
        recipe_digest=None,
        product=recipe,
        verdict=judgement,
        reasons=(),
        views=(),
        gate=GateCommand.PASS,
        trigger_ns=0,
        trigger_time_ns=0,
        deadline_ns=0,
        judged_ns=0,
    )


def test_camera_takes_what_is_wanted_of_it_and_no_more_than_that(tmp_path: Path) -> None:
    wishes, counters = Wishes(tmp_path), Counter[str]()
    wanted = Wanted(Wishes(tmp_path), "front", counters)
    wanted.look(NOW_NS)
    assert not wanted.takes(verdict(1))
    wishes.write([wish(), wish(name="b", camera="back")])
    wanted.look(NOW_NS + 1)
    assert not wanted.takes(verdict(1)), "it looks twice a second at most"
    wanted.look(NOW_NS + LOOK_NS)
    assert not wanted.takes(verdict(1, Judgement.REJECT))
    assert not wanted.takes(verdict(1, recipe="lid"))
    assert [wanted.takes(verdict(number)) for number in range(5)] == [True, True, True, False, False]
    wishes.write([wish(until_ns=NOW_NS + 30 * 10**9)])  # renewed: it has had what it may all the same
    wanted.look(NOW_NS + 2 * LOOK_NS)
    assert not wanted.takes(verdict(9))
    wishes.write([wish(name="c")])
    wanted.look(NOW_NS + 3 * LOOK_NS)
    assert wanted.takes(verdict(9))
    assert counters["wanted"] == 4


def test_wish_ends_by_itself_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    wishes, counters = Wishes(tmp_path), Counter[str]()
    wishes.write([wish()])
    wanted = Wanted(Wishes(tmp_path), "front", counters)
    wanted.look(NOW_NS)
    assert wanted.takes(verdict(1))
    wanted.look(NOW_NS + 21 * 10**9)
    assert not wanted.takes(verdict(2)), "nobody has renewed it"
    (tmp_path / "wishes.json").write_text("{")
    wanted.look(NOW_NS + 22 * 10**9)
    assert not wanted.takes(verdict(3))
    assert counters["wishes_unreadable"] == 1
    wishes.write([])
    wanted.look(NOW_NS + 23 * 10**9)
    assert not wanted.takes(verdict(4))


def test_sampled_parts_are_the_same_ones_whoever_asks() -> None:
    one = wish(every_parts=10, most=1000)
    finer = wish(every_parts=5, most=1000)
    taken = {number for number in range(10_000) if one.means("cap", Judgement.PASS, number)}
    assert abs(len(taken) - 1000) <= 2
    assert taken <= {number for number in range(10_000) if finer.means("cap", Judgement.PASS, number)}
