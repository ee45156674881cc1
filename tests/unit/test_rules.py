import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from config.messages import GateCommand, Judgement, Loss, Prediction, Reason, Trigger
from config.recipe import Recipe, ViewRecipe
from decision import rules
from decision.deadlines import OpenPart, Scored
from decision.zones import Picture, Zones, touched

FRAME = (80, 160, 3)


def view_recipe(**changes):
    return ViewRecipe(**{"bundle": "b.bundle", "review_above": 1.0, "reject_above": 2.0, **changes})


def recipe(views=("front",), **changes):
    of_view = changes.pop("view", {})
    return Recipe(**{"product": "bracket", "job": 1, "views": dict.fromkeys(views, view_recipe(**of_view)), **changes})


def scored(anomaly_map, score=..., digest="sha256:1", camera="front"):
    anomaly_map = np.asarray(anomaly_map, np.float32)
    prediction = Prediction(
        frame_id=f"p/{camera}",
        part_id="p",
        camera=camera,
        score=float(anomaly_map.max()) if score is ... else score,
        map_shape=anomaly_map.shape,
        frame_shape=FRAME,
        bundle_digest=digest,
        worker="w",
        batch_size=1,
        received_ns=1,
        started_ns=2,
        finished_ns=3,
    )
    return Scored(prediction, anomaly_map)


def part(answers, views=("front",)):
    trigger = Trigger(
        part_id="p",
        sequence=7,
        station="s",
        camera="front",
        views=views,
        recipe="bracket",
        trigger_ns=10,
        trigger_time_ns=20,
        deadline_ns=30,
    )
    return OpenPart(trigger, answers)


def grid(**cells):
    found = np.zeros((8, 16), np.float32)
    for name, value in cells.items():
        row, column = (int(number) for number in name[1:].split("_"))
        found[row, column] = value
    return found


def judge(answers, wanted=None, roi=None, views=("front",)):
    wanted = wanted or recipe(views)
    picture = Picture(roi) if roi is not None else None
    places = {camera: Zones(picture, [], []) for camera in wanted.views}
    return rules.judge(part(answers, views), rules.Rules(wanted, "sha256:r", places), "1", 25)[0]


@pytest.mark.parametrize(
    ("peak", "verdict", "gate"),
    [
        (1.0, Judgement.PASS, GateCommand.PASS),
        (1.001, Judgement.REVIEW, GateCommand.REJECT),
        (2.0, Judgement.REVIEW, GateCommand.REJECT),
        (2.001, Judgement.REJECT, GateCommand.REJECT),
    ],
)
def test_thresholds(peak, verdict, gate):
    found = judge({"front": scored(grid(_3_4=peak))})
    assert (found.verdict, found.gate) == (verdict, gate)


def test_review_follows_its_own_gate_policy():
    wanted = recipe(review_gate="PASS")
    assert judge({"front": scored(grid(_0_0=1.5))}, wanted).gate is GateCommand.PASS


def test_regions_are_boxes_in_frame_pixels_worst_first():
    view = judge({"front": scored(grid(_2_3=1.5, _2_4=1.2, _7_15=3.0))}).views[0]
    worst, other = view.regions
    assert (worst.x_px, worst.y_px, worst.width_px, worst.height_px, worst.area_px) == (150, 70, 10, 10, 100)
    assert (other.x_px, other.y_px, other.width_px, other.height_px, other.area_px) == (30, 20, 20, 10, 200)
    assert worst.score == 3.0


def test_small_defects_do_not_count():
    wanted = recipe(view={"minimum_defect_area_px": 150})
    assert judge({"front": scored(grid(_3_4=9.0))}, wanted).verdict is Judgement.PASS
    assert judge({"front": scored(grid(_3_4=9.0, _3_5=1.5))}, wanted).verdict is Judgement.REJECT


def test_outside_the_roi_nothing_counts():
    roi = np.zeros((8, 16), np.uint8)
    roi[:, :8] = 255
    assert judge({"front": scored(grid(_3_12=9.0))}, roi=roi).verdict is Judgement.PASS
    inside = judge({"front": scored(grid(_3_12=9.0, _3_4=1.5))}, roi=roi)
    assert (inside.verdict, inside.views[0].score) == (Judgement.REVIEW, 1.5)


def test_an_roi_of_another_size_covers_every_cell_that_it_touches():
    roi = np.zeros((100, 100), np.uint8)
    roi[50, 50] = 255
    assert touched(roi > 0, (4, 4)).sum() == 1
    assert touched(roi > 0, (300, 300)).any()
    assert touched(np.full((5, 3), fill_value=True), (28, 28)).all()


def test_missing_views_are_late_and_a_loss_says_its_reason():
    found = judge({"front": scored(grid())}, views=("front", "back"))
    assert (found.verdict, found.reasons, found.gate) == (Judgement.FAULT, (Reason.LATE,), GateCommand.REJECT)
    loss = Loss(part_id="p", camera="front", reason=Reason.OVERRUN)
    assert judge({"front": loss}).reasons == (Reason.OVERRUN,)


def test_a_right_answer_after_the_deadline_is_a_fault_that_keeps_its_score():
    verdict, _ = rules.judge(part({"front": scored(grid(_1_1=0.5))}), rules.Rules.load(recipe()), "1", 31)
    assert (verdict.verdict, verdict.reasons, verdict.gate) == (Judgement.FAULT, (Reason.LATE,), GateCommand.REJECT)
    assert (verdict.views[0].verdict, verdict.views[0].score) == (Judgement.PASS, 0.5)


def test_fault_stops_the_line_where_the_recipe_says_so():
    assert judge({}, recipe(fail_safe="stop")).gate is GateCommand.STOP


def test_an_unknown_recipe_is_a_fault():
    verdict, _ = rules.judge(part({"front": scored(grid())}), None, "1", 25)
    assert (verdict.verdict, verdict.reasons) == (Judgement.FAULT, (Reason.UNKNOWN_RECIPE,))


def test_another_bundle_than_the_recipe_names_is_a_fault():
    wanted = recipe(view={"bundle_digest": "sha256:2"})
    assert judge({"front": scored(grid())}, wanted).reasons == (Reason.WRONG_BUNDLE,)


@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_faults(bad):
    assert judge({"front": scored(grid(), score=bad)}).reasons == (Reason.NOT_FINITE,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_that_are_no_numbers_are_faults(bad):
    assert judge({"front": scored(grid(_1_1=bad), score=0.0)}).reasons == (Reason.NOT_FINITE,)


def test_a_score_that_its_map_does_not_show_is_not_passed():
    assert judge({"front": scored(grid(), score=5.0)}).verdict is Judgement.REJECT


def test_maps_travel_beside_the_verdict_one_for_each_view_that_has_one():
    answers = {"front": scored(grid(_0_0=3.0)), "back": Loss(part_id="p", camera="back", reason=Reason.LATE)}
    wanted = rules.Rules.load(recipe(("front", "back")))
    verdict, payload = rules.judge(part(answers, ("front", "back")), wanted, "1", 25)
    assert [view.map_shape for view in verdict.views] == [(8, 16), None]
    assert np.frombuffer(payload[0], np.float16).max() == 3.0
    assert len(payload) == 1


@given(st.floats(0, 4, width=32), st.floats(0, 2), st.floats(0, 2))
@example(1.9206160306930542, 1.9206160306878854, 0.0)  # alike as float32
def test_pass_is_earned_exactly_up_to_the_lower_threshold(peak, review, more):
    wanted = recipe(view={"review_above": review, "reject_above": review + more})
    found = judge({"front": scored(grid(_4_4=peak))}, wanted)
    assert (found.verdict is Judgement.PASS) == (peak <= review)
    assert (found.gate is GateCommand.PASS) == (found.verdict is Judgement.PASS)


def test_maps_are_kept_as_the_recipe_says():
    def maps(peak, wanted, sequence=7):
        judged = part({"front": scored(grid(_3_4=peak))})
        judged.trigger = replace(judged.trigger, sequence=sequence)
        found, payload = rules.judge(judged, rules.Rules.load(wanted), "1", 25)
        assert [view.map_shape for view in found.views] == ([(8, 16)] if payload else [None])
        return [np.frombuffer(content, np.float16).reshape(8, 16).max() for content in payload]

    assert maps(0.5, recipe()) == [], "by default a PASS has none"
    assert maps(1.5, recipe()) == [1.5]
    assert maps(3.0, recipe(keep={"REJECT": {"pixels": "exact", "map": False}})) == []
    sampled = recipe(keep={"PASS": {"pixels": "none", "every_parts": 10}})
    assert 9 <= sum(len(maps(0.5, sampled, sequence)) for sequence in range(100)) <= 11
