"""The state machines of OPC 40100-1 against the standard's own file, and against any history of orders and faults."""

from __future__ import annotations

import gzip
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import get_args

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import decision.vision
from config.messages import Control, Method, Mode, Standing
from decision.control import GIVING_UP, Controls
from decision.vision.states import TRANSITIONS, VisionState, mode_after, path, state_of

NODESET = Path(decision.vision.__file__).with_name("Opc.Ua.MachineVision.NodeSet2.xml.gz")
NODES = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - as a runtime folder is: no disk is waited for
METHODS = get_args(Method)


def standard() -> dict[str, tuple[str, str, str | None]]:
    """Return the transitions of both machines as the OPC Foundation's file has them: source, target, cause."""
    with gzip.open(NODESET) as file:
        nodes = {node.get("NodeId"): node for node in ET.parse(file).getroot() if node.get("NodeId")}  # noqa: S314 - our own file

    def name(node_id: str | None) -> str:
        return nodes[node_id].get("BrowseName", "").removeprefix("1:") if node_id in nodes else ""

    found = {}
    for node in nodes.values():
        references = [(one.get("ReferenceType"), one) for one in node.iter(f"{NODES}Reference")]
        to = {kind: name(one.text) for kind, one in references if kind in ("FromState", "ToState", "HasCause")}
        owner = [
            name(one.text) for kind, one in references if kind == "HasComponent" and one.get("IsForward") == "false"
        ]
        is_transition = ("HasTypeDefinition", "i=2310") in [(kind, one.text) for kind, one in references]
        if is_transition and owner[0] in ("VisionStateMachineType", "VisionAutomaticModeStateMachineType"):
            found[name(node.get("NodeId"))] = to["FromState"], to["ToState"], to.get("HasCause")
    return found


def of(state: VisionState, owner: VisionState) -> str:
    """Return a state as the machine of a transition names it."""
    return "Operational" if state.automatic and not owner.automatic else state.value


def test_every_transition_is_the_standard_s_with_its_states_and_its_cause() -> None:
    known = standard()
    for one in TRANSITIONS:
        source, target, cause = known[one.name]
        assert source == of(one.source, one.target)
        assert target in (of(one.target, one.source), one.target.value)
        assert cause == one.cause


def test_every_transition_of_the_standard_is_there() -> None:
    # these two lead to the same state as PreoperationalToInitialized, which names where in Operational that is
    to_operational = {"PreoperationalToOperational", "PreoperationalToOperationalAuto"}
    assert set(standard()) - to_operational == {one.name for one in TRANSITIONS}


def test_a_method_is_taken_where_the_standard_has_a_transition_for_it_and_where_it_has_no_effect() -> None:
    allowed = {(one.cause, one.source) for one in TRANSITIONS if one.cause}
    idle = {("Halt", VisionState.HALTED), ("Reset", VisionState.PREOPERATIONAL)}
    again = {("PrepareRecipe", VisionState.READY), ("PrepareProduct", VisionState.READY)}
    taken = {(method, state) for method in METHODS for state in VisionState if mode_after(method, state)}
    assert taken == allowed | idle | again


def test_a_changeover_is_no_error() -> None:
    names = [one.name for one in path(VisionState.CONTINUOUS_EXECUTION, VisionState.INITIALIZED)]
    assert names == ["ContinuousExecutionToReadyAuto", "ReadyToInitializedAuto"]


class Histories(RuleBasedStateMachine):
    """A station that is ordered about, fails, recovers, judges parts and is killed."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.controls = Controls(Path(self.folder.name), "r")
        self.able = False
        self.recipe: str | None = "a"
        self.open: set[str] = set()
        self.judged: dict[str, bool] = {}  # part -> whether it came while the station took parts
        self.count = 0
        self.shown = VisionState.PREOPERATIONAL
        self.been = False
        self.order = 0
        self.look()

    def standing(self) -> Standing:
        recipe = self.recipe if self.controls.prepared else None
        return Standing(state="READY" if self.able else "DEGRADED", recipe=recipe)

    def look(self) -> Standing:
        """Show the state as the server does; path() raises where the standard knows no way."""
        told = self.controls.show(self.standing(), open_parts=len(self.open))
        state = state_of(told, heard=True, been_operational=self.been)
        self.been |= state.automatic
        way = path(self.shown, state, told.method if told.order != self.order else "")
        assert all(one.cause in (None, told.method) for one in way)
        self.shown, self.order = state, told.order
        self.answered = self.controls.answers(told, open_parts=len(self.open))
        return told

    @rule(able=st.booleans())
    def fails_or_recovers(self, able: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        self.able = able
        self.look()

    @rule()
    def a_part_comes(self) -> None:
        self.count += 1
        part, takes = f"p{self.count}", self.controls.takes()
        if takes:
            self.controls.taken(part)
            self.open.add(part)
        self.judged[part] = takes

    @precondition(lambda self: self.open)
    @rule()
    def a_part_is_judged(self) -> None:
        part = min(self.open)
        self.open.discard(part)
        self.controls.judged(part)
        self.look()

    @rule(method=st.sampled_from(METHODS), recipe=st.sampled_from(["a", "b", None]), asked=st.sampled_from(["a", None]))
    def is_ordered(self, method: Method, recipe: str | None, asked: str | None) -> None:
        before, was = self.look(), self.shown
        about = recipe or "a" if "repare" in method else None
        control = Control(order_id="o", method=method, who="w", recipe=about)
        refused = self.controls.refuses(control, before, recipe=before.recipe, asked=asked)
        if refused:
            assert self.look() == before
            return
        assert mode_after(method, was) is not None
        self.controls.order(control, before, b"w")
        if method in GIVING_UP:
            for part in list(self.open):
                self.open.discard(part)
                self.controls.judged(part)
        if method.startswith("Prepare"):
            self.recipe = about
        told = self.look()
        if not self.open:
            assert {answer.order_id for _, answer in self.answered} == {"o"}  # and of those that waited before
            assert told.mode is mode_after(method, was)

    @rule()
    def is_killed(self) -> None:
        mode = self.controls.show(self.standing(), open_parts=0).mode
        self.controls, self.open = Controls(Path(self.folder.name), "r"), set()
        told = self.look()
        assert told.mode is (Mode.READY if mode is Mode.SINGLE else mode)
        self.been |= self.shown.automatic

    @invariant()
    def parts_are_taken_only_where_the_state_says_so(self) -> None:
        if self.controls.takes():
            assert self.shown in (
                *(VisionState.CONTINUOUS_EXECUTION, VisionState.SINGLE_EXECUTION),
                *(VisionState.ERROR, VisionState.PREOPERATIONAL),  # it would, and cannot: something is wrong
            )
            assert self.shown.executing or not self.able
        else:
            assert self.controls.why_none

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


Histories.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
test_any_history = Histories.TestCase
