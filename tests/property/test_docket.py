"""Whatever comes in whatever order, each triggered part leaves the docket once, by its deadline."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from config.messages import Loss, Prediction, Reason, Trigger, Truth
from decision.deadlines import Docket, Scored

PARTS = st.integers(0, 12)
CAMERAS = st.sampled_from(["front", "back"])


def trigger(number, now_ns, camera, deadline):
    return Trigger(
        part_id=f"p{number}",
        sequence=number,
        station="s",
        camera=camera,
        views=("front", "back"),
        recipe="r",
        trigger_ns=now_ns,
        trigger_time_ns=0,
        deadline_ns=now_ns + deadline,
    )


def scored(number, camera):
    prediction = Prediction(
        frame_id=f"p{number}/{camera}",
        part_id=f"p{number}",
        camera=camera,
        score=1.0,
        map_shape=(1, 1),
        frame_shape=(8, 8, 3),
        bundle_digest="d",
        worker="w",
        batch_size=1,
        received_ns=0,
        started_ns=0,
        finished_ns=0,
    )
    return Scored(prediction, None)


class Line(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.docket = Docket()
        self.now_ns = 0
        self.triggered = {}
        self.left = []

    def judge(self):
        for part in self.docket.due(self.now_ns):
            assert part.complete or part.trigger.deadline_ns <= self.now_ns
            self.left.append(part.trigger.part_id)
            self.docket.forget(part.trigger.part_id)

    @rule(number=PARTS, camera=CAMERAS, deadline=st.integers(1, 30))
    def triggers(self, number, camera, deadline):
        if f"p{number}" in self.left:  # the service answers these from what it has judged
            return
        made = trigger(number, self.now_ns, camera, deadline)
        self.docket.trigger(made)
        self.triggered.setdefault(made.part_id, made.deadline_ns)
        self.judge()

    @rule(number=PARTS, camera=CAMERAS)
    def predicts(self, number, camera):
        if f"p{number}" not in self.left:
            self.docket.answer(f"p{number}", camera, scored(number, camera))
        self.judge()

    @rule(number=PARTS, camera=CAMERAS)
    def loses(self, number, camera):
        if f"p{number}" not in self.left:
            loss = Loss(part_id=f"p{number}", camera=camera, reason=Reason.OVERRUN)
            self.docket.answer(f"p{number}", camera, loss)
        self.judge()

    @rule(step=st.integers(1, 20))
    def time_passes(self, step):
        self.now_ns += step
        self.judge()

    @invariant()
    def each_leaves_once_and_in_time(self):
        assert len(self.left) == len(set(self.left))
        for part_id, deadline_ns in self.triggered.items():
            assert part_id in self.left or deadline_ns > self.now_ns
        due_ns = self.docket.next_ns()
        assert (due_ns is None) == (len(self.docket) == 0)

    def teardown(self):
        self.now_ns += 10_000
        self.judge()
        assert set(self.left) == set(self.triggered)


Line.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDocket = Line.TestCase


def test_what_a_camera_knows_of_a_part_is_added_to_a_trigger_that_came_without():
    docket = Docket()
    docket.trigger(trigger(1, 0, "", 10))
    docket.trigger(msgspec.structs.replace(trigger(1, 5, "front", 10), truth=Truth(good=False)))
    docket.trigger(msgspec.structs.replace(trigger(1, 5, "back", 10), truth=Truth(good=True)))
    (part,) = docket.close()
    assert part.trigger == msgspec.structs.replace(trigger(1, 0, "", 10), truth=Truth(good=False))
